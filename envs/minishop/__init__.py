"""MiniShop: WebShop's pages and reward over a generated catalogue."""
