"""HotpotQA, 2WikiMultihopQA and MuSiQue as environments: search, look up, answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from prosegym.envs.core import Expert, Outcome, Task, Tasks, TextEnv, digest
from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.questions import corpus as corpora
from prosegym.envs.questions import live
from prosegym.envs.questions.corpus import Corpus, FileCorpus, title_key
from prosegym.envs.questions.data import SPLITS, Split, open_split, read_manifest
from prosegym.envs.questions.metrics import exact_match, f1
from prosegym.envs.questions.records import Question
from prosegym.envs.questions.variants import VARIANTS, Variant
from prosegym.envs.rewards import Maker

METRICS = ("em", "f1")


class Questions(TextEnv):
    """A question is to be answered after searching an encyclopaedia.

    Observation: first `Question: ...`; then what the action showed, in the words of the variant.
    Actions: search, look up (not in RetroAct), finish; their spelling is the variant's (`variants`).
    Reward: at the end, exact match or F1 of the answer (`metric`); 0 without an answer. Success is exact
        match.
    Progress: the share of the supporting titles that were opened, and 1 at success.
    Termination: with an answer; truncation after 7 (react), 6 (reflexion) or 5 (retroact) steps.
    """

    experts: ClassVar[Mapping[str, bool]] = {"oracle": True}
    tells_type: ClassVar[bool] = False
    closed_answers: ClassVar[bool] = True
    """Whether yes, no and noanswer must match as a whole for F1."""
    about: ClassVar[str] = "Answer a question after searching an encyclopaedia, over several pages."

    def __init__(
        self,
        *,
        variant: str = "react",
        metric: str | None = None,
        max_steps: int | None = None,
        **base: Any,
    ) -> None:
        """Make the environment.

        Args:
            variant: whose actions and words: "react", "reflexion" or "retroact".
            metric: the score of an answer: "em" or "f1"; None takes the variant's own.
            max_steps: steps after which an episode is truncated; None takes the variant's own.
            base: see `TextEnv`.
        """
        if variant not in VARIANTS:
            raise UnknownName("variant", variant, VARIANTS)
        if metric is not None and metric not in METRICS:
            raise UnknownName("metric", metric, METRICS)
        super().__init__(max_steps=VARIANTS[variant].steps if max_steps is None else max_steps, **base)
        self._variant: Variant = VARIANTS[variant]()
        self.metric = metric or self._variant.metric
        self.instruction = f"{self.about} Actions: {self._variant.actions}"
        self.refusal = self._variant.refusal
        self._question: Question
        self._corpus: Corpus
        self._supporting: frozenset[str] = frozenset()
        self._opened: frozenset[str] = frozenset()

    @abstractmethod
    def _load_question(self, task: Task) -> tuple[Question, Corpus]:
        """A task's question, and where its searches look."""

    def _begin(self, task: Task) -> Outcome:
        self._pose(task)
        self._opened = frozenset()
        self._variant = type(self._variant)()
        return Outcome(f"Question: {self._question.question}")

    def _pose(self, task: Task) -> None:
        self._question, self._corpus = self._load_question(task)
        self._supporting = frozenset(map(title_key, self._question.supporting))

    def _play(self, action: str) -> Outcome:
        reply = self._variant.play(action, self._corpus)
        if reply.answer is not None:
            return self._finish(reply.answer)
        if reply.opened is not None:
            self._opened |= self._supporting & {title_key(reply.opened.title)}
        return Outcome(reply.observation, 0.0, self._recall, invalid=reply.invalid)

    def _finish(self, answer: str) -> Outcome:
        right = exact_match(answer, self._question.answers)
        if right or self.metric == "em":
            score = float(right)
        else:
            score = f1(answer, self._question.answers, closed=self.closed_answers)
        verdict = self._variant.verdict(right, score)
        return Outcome(verdict, score, 1.0 if right else self._recall, right, terminated=True)

    @property
    def _recall(self) -> float:
        return len(self._opened) / len(self._supporting) if self._supporting else 0.0

    def _expert(self, name: str) -> Expert:
        return Oracle(self)

    def _save(self) -> Any:
        return self._opened, self._variant.save()

    def _load(self, state: Any) -> None:
        assert self._task is not None
        self._pose(self._task)
        self._opened, page = state
        self._variant.load(page)

    def oracle_action(self, steps: int) -> str:
        """Search for the first supporting title that was not opened; answer when there is none."""
        for title in self._question.supporting:
            if title_key(title) not in self._opened and steps < self.max_steps - 1:
                return self._variant.search(title)
        return self._variant.finish(self._question.answers[0])


class Oracle:
    """Opens the supporting pages in order, then gives the answer it was told."""

    privileged = True

    def __init__(self, env: Questions) -> None:
        self._env = env

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        """The next search, or the answer."""
        return self._env.oracle_action(info["steps"])


class OfficialQuestions(Questions):
    """Questions of an official set, over the paragraphs that come with them or a larger corpus.

    Differences: pages are the given introductory paragraphs, not today's Wikipedia as in ReAct's and
    Reflexion's environments, unless `corpus="live"`; titles like the one asked for are ranked by BM25.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(self, *, corpus: str = "question", corpus_sha256: str | None = None, **base: Any) -> None:
        """Make the environment.

        Args:
            corpus: where searches look: "question" (the question's own paragraphs), "split" (those of all
                installed questions of its split), "live" (English Wikipedia; "live:URL" another MediaWiki's
                api.php), or a file of paragraphs (`records.read_corpus` says which kinds).
            corpus_sha256: the digest that the file's corpus, or all installed splits together, must have, so
                that a recorded run names its corpus; None takes any.
            base: see `Questions`.
        """
        super().__init__(**base)
        if corpus not in ("question", "split") and not live.is_live(corpus) and not Path(corpus).is_file():
            raise BadOption(f"no corpus {corpus!r}: give question, split, live, or a file of paragraphs")
        if corpus_sha256 is not None and (corpus == "question" or live.is_live(corpus)):
            raise BadOption(f"corpus_sha256 names a split's or file's corpus; corpus is {corpus!r}")
        self.corpus = corpus
        self._corpus_sha256 = corpus_sha256

    def tasks(self, split: str) -> Tasks:
        """The installed questions of a split, by id."""
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        stored = self._stored(split)
        return Tasks(len(stored.rows), lambda i: self._task_of(stored, stored.rows[i].id))

    def task(self, task_id: str) -> Task:
        """The question of that id; the sets are often installed in part, so the error counts them."""
        stored = [self._stored(split) for split in self.splits]
        for split in stored:
            if task_id in split:
                return self._task_of(split, task_id)
        known = [row.id for split in stored for row in split.rows]
        kind = f"task id among the {len(known)} installed (`prosegym data get {self.data}` gets all)"
        raise UnknownName(kind, task_id, known)

    def _stored(self, split: str) -> Split:
        assert self.data is not None
        return open_split(self.data, split)

    def _task_of(self, split: Split, question_id: str) -> Task:
        row = split.row(question_id)
        return Task(row.id, split.name, self.env_id, row.type, row.sha256)

    def conditions(self) -> Mapping[str, Any]:
        """The splits' or file's corpus by its digest, and what of the official set is installed."""
        assert self.data is not None
        manifest = read_manifest(self.data)
        known: dict[str, Any] = {"aliases": manifest.aliases, "train_held_out": manifest.held_out}
        if self.corpus != "question" and not live.is_live(self.corpus):
            known["corpus_sha256"] = self._corpus_digest()
        return known

    def _load_question(self, task: Task) -> tuple[Question, Corpus]:
        split = self._stored(task.split)
        if self.corpus == "question":
            return corpora.of_question(split, task.id)
        if live.is_live(self.corpus):
            return split.question(task.id), live.of_address(self.corpus)
        return split.question(task.id), self._file_corpus(task.split)

    def _corpus_digest(self) -> str:
        """Digest of the file's corpus, or of the questions of all splits: a panel's tasks may be of several.

        Raises:
            BadOption: it is not the one that was asked for.
        """
        if self.corpus == "split":
            found = digest(*(self._stored(split).sha256 for split in self.splits))
        else:
            found = corpora.of_file(Path(self.corpus)).sha256
        if self._corpus_sha256 not in (None, found):
            raise BadOption(
                f"the corpus {self.corpus!r} here has digest {found[:16]}..., "
                f"not {str(self._corpus_sha256)[:16]}...; install what the run was made with"
            )
        return found

    def _file_corpus(self, split: str) -> FileCorpus:
        assert self.data is not None
        self._corpus_digest()
        if self.corpus == "split":
            return corpora.of_split(self.data, split)
        return corpora.of_file(Path(self.corpus))


class HotpotQA(OfficialQuestions):
    """HotpotQA (Yang et al., EMNLP 2018): bridge and comparison questions over two Wikipedia paragraphs.

    Splits: train (90,447 questions) and dev (7,405) of the distractor setting, as installed; the official
    test set has no answers.
    Source: hotpotqa.github.io, CC BY-SA 4.0.
    """

    env_id = "prosegym/HotpotQA-v1"
    data = "hotpotqa"
    official = True


class TwoWikiMultihopQA(OfficialQuestions):
    """2WikiMultihopQA (Ho et al., COLING 2020): compositional, comparison, bridge-comparison, inference.

    Splits: train (167,454 questions) and dev (12,576), as installed; the official test set has no answers.
    Aliases of answers count where `id_aliases.json` was installed with the questions, as in the official
    script.
    Source: github.com/Alab-NII/2wikimultihop, Apache-2.0.
    Differences: the authors evaluate reading; searching and its words are those of the variants. A paragraph
    that a question has twice stands twice on its page.
    """

    env_id = "prosegym/2WikiMultihopQA-v1"
    data = "2wikimultihopqa"
    official = True


class MuSiQue(OfficialQuestions):
    """MuSiQue (Trivedi et al., TACL 2022): questions composed of two to four single-hop ones.

    Splits: train (19,938 questions) and dev (2,417) of MuSiQue-Ans, as installed (of MuSiQue-Full where only
    that is given: an unanswerable question is answered with `noanswer`).
    Source: github.com/StonyBrookNLP/musique, CC BY 4.0.
    Differences: the authors evaluate reading; searching and its words are those of the variants. Several
    paragraphs of a title are one page. F1 has no yes/no rule, as in MuSiQue's script.
    """

    env_id = "prosegym/MuSiQue-v1"
    data = "musique"
    official = True
    closed_answers = False


make_hotpotqa = Maker(HotpotQA)
make_two_wiki = Maker(TwoWikiMultihopQA)
make_musique = Maker(MuSiQue)
