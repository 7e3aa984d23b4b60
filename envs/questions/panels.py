"""The questions that published agents were evaluated on, as far as they can be named.

Reflexion's 100 (also Retroformer's, ExpeL's and RetroAct's test questions) are a committed panel. ReAct's
500 are rows of the official development file; their ids are known once that file is installed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from prosegym.envs import panels
from prosegym.envs.core import TextEnv

REACT_DEV_SIZE = 7405
"""Questions in HotpotQA's official development set."""

REACT_COUNT = 500

REFLEXION_ROWS = {
    4367: "5a7613c15542994ccc9186bf",
    1867: "5adf2fa35542993344016c11",
    3504: "5adfdef9554299025d62a36b",
    5015: "5a7180205542994082a3e856",
    554: "5a78bc6b554299148911f979",
    6979: "5abdd0f15542991f6610604d",
    2197: "5a8e27d45542995a26add46a",
    2942: "5a881d2355429938390d3eeb",
    6378: "5ae4a1ef55429970de88d9e7",
    263: "5ae6f2a7554299572ea5464a",
    5283: "5a845d735542996488c2e52e",
    6994: "5adf5daf5542995534e8c79d",
    5777: "5a7c49dc55429935c91b514f",
    7323: "5abe364e5542993f32c2a08e",
    6266: "5ac557975542993e66e8231c",
    7168: "5ab28a87554299449642c8ec",
    6429: "5adff056554299603e4183cc",
    5542: "5abd578a5542993062266c5d",
    6226: "5a7b537555429927d897bf90",
    5464: "5a7dc3275542997cc2c4749c",
    4078: "5ab5487b554299494045ef68",
    2820: "5ac2758b55429963665199c3",
    251: "5ab7f97a5542991d322237ef",
    6593: "5a81e107554299676cceb12a",
    4690: "5ab6f7415542991d322236f4",
    3149: "5ac562985542993e66e823ca",
    4309: "5a87bd4e5542994846c1cde0",
    7158: "5aba52e655429939ce03dc94",
    503: "5ab58f9a554299488d4d99da",
    2402: "5ae67def5542991bbc9760f3",
    3197: "5adeb78a554299728e26c77a",
    6754: "5ae66d515542992ae0d16346",
    3159: "5a8e60ca5542995a26add4d9",
    3349: "5a72a2935542991f9a20c546",
    2850: "5a7f7b3b5542992097ad2f81",
    5641: "5a82ebb855429966c78a6a9c",
    2879: "5add596f5542990dbb2f7e4d",
    3540: "5ac4db1d554299076e296e1a",
    1061: "5ac532335542994611c8b41c",
    5664: "5ae7a8d35542994a481bbdbb",
    4617: "5a8db348554299068b959dc2",
    4597: "5adcbb815542994ed6169bde",
    7187: "5ab915ad55429919ba4e239c",
    3309: "5ab94fa25542996be2020474",
    2287: "5a7ca0ef55429907fabeefd3",
    230: "5a7a5b3a5542996c55b2dd71",
    318: "5abbd3ac55429931dba1458b",
    1042: "5ac3af895542995ef918c1f0",
    5608: "5a72dcb45542992359bc31af",
    7322: "5ae1e22a5542997f29b3c160",
    4526: "5ae6316d5542996de7b71b87",
    4734: "5ade4801554299728e26c6ab",
    1941: "5a9064c755429916514e74a6",
    4756: "5addc79d5542995b365fab7b",
    1078: "5ac097b05542996f0d89cc18",
    3977: "5a79caad5542994f819ef09f",
    1511: "5a83a31c554299123d8c2179",
    3608: "5a72830e5542994cef4bc2f9",
    5950: "5abaca935542996606241610",
    169: "5ae0a59a55429945ae9593e2",
    2922: "5ab700ca5542991d32223736",
    6864: "5a8bd49d5542997f31a41dd7",
    1790: "5ae4d3a55542990ba0bbb164",
    2569: "5ab29346554299545a2cf997",
    1608: "5a776fc15542997042120a3a",
    4240: "5ab3ede755429976abd1bcf4",
    132: "5a80071f5542992bc0c4a684",
    1566: "5ae08a0455429924de1b70fc",
    2183: "5ab484415542990594ba9c44",
    5212: "5a811667554299260e20a23d",
    1737: "5a81c7d15542990a1d231ea9",
    1543: "5a716ec85542994082a3e82d",
    5865: "5ade25ed5542997c77aded70",
    5785: "5a89dd4d554299669944a5e3",
    5976: "5abba3cd554299642a094aee",
    2692: "5ac540365542994611c8b470",
    4563: "5ae199305542997b2ef7d20e",
    468: "5ae789615542997ec2727695",
    6210: "5a75e67d5542992db9473709",
    2399: "5a8a5a1955429930ff3c0da7",
    6733: "5a7bc0755542995eb53be9a5",
    4159: "5ae7535c5542997b22f6a6d8",
    7315: "5adf95745542995534e8c7f8",
    6109: "5adf3c155542993a75d2643a",
    7031: "5ac1a6bf5542991316484b8d",
    4099: "5a87b2fc5542996e4f3088d0",
    4094: "5a807ca5554299485f598613",
    5926: "5adf1b8a5542995534e8c750",
    4545: "5a87081755429960ec39b6fe",
    996: "5ab322b1554299194fa93570",
    37: "5a80721b554299485f5985ef",
    61: "5a85fb085542994775f606de",
    472: "5a79c1335542994bb9457066",
    101: "5a774e9c55429972597f14f3",
    3340: "5adcdea85542992c1e3a2441",
    4205: "5ac509e95542994611c8b333",
    6446: "5a8b42be55429949d91db515",
    3450: "5ab9b2c7554299743d22ebaf",
    3734: "5a7b63eb55429931da12ca7e",
    3317: "5a7ea14655429930675135ab",
}
"""Reflexion's 100 questions in its order: row in the official development file (from 0), and id.

Source: noahshinn/reflexion @218cf0ef, hotpotqa_runs/data, columns `df_index` and `id`.
"""


def react_rows() -> list[int]:
    """Rows of ReAct's questions in the official development file, in playing order.

    Source: ysymyth/ReAct, hotpotqa.ipynb: `random.Random(233).shuffle(range(7405))`, the first 500.
    """
    rows = list(range(REACT_DEV_SIZE))
    random.Random(233).shuffle(rows)
    return rows[:REACT_COUNT]


def of_ids(env: TextEnv, name: str, split: str, ids: Sequence[str], about: str) -> panels.Panel:
    """A panel of the named questions, in that order.

    Raises:
        UnknownName: one of them is not installed.
    """
    tasks = [(task.id, task.sha256) for task in map(env.task, ids)]
    return panels.of_tasks(f"{env.env_id.removeprefix('prosegym/')}/{name}", env.env_id, split, about, tasks)


def reflexion100(env: TextEnv) -> panels.Panel:
    """The panel of Reflexion's 100 questions."""
    about = (
        "Reflexion's 100 questions (noahshinn/reflexion @218cf0ef), in its order; also the test questions of "
        "Retroformer and ExpeL. Rows of HotpotQA's official development set."
    )
    return of_ids(env, "reflexion100", "dev", list(REFLEXION_ROWS.values()), about)


def react500(env: TextEnv, ids: Sequence[str]) -> panels.Panel:
    """The panel of ReAct's 500 questions, whose ids the installed set's manifest gives (`react500`)."""
    about = (
        "ReAct's 500 questions (ysymyth/ReAct, hotpotqa.ipynb): rows of HotpotQA's official development set "
        "by random.Random(233).shuffle(range(7405))."
    )
    return of_ids(env, "react500", "dev", ids, about)
