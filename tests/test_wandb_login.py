"""A key for Weights & Biases, where it looks for one."""

from __future__ import annotations

from utils import wandb_login


def test_a_login_is_found_where_wandb_looks_for_it(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert not wandb_login.logged_in()
    (tmp_path / "_netrc").write_text("machine api.wandb.ai login user password invented\n")
    assert wandb_login.logged_in()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user\n")  # comes first, on Windows too
    assert not wandb_login.logged_in()
