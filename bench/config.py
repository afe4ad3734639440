"""A scale file (``configs/*.yaml``) as a validated value: what departs from the papers, and what a run may use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from bench import paths
from bench.errors import UserError, closest
from bench.looks import BLOCK, LEAST
from bench.run import StrictModel

CONFIGS = paths.PROJECT / "configs"
MOST_ERRORS = 10


def no_switch(value: Any) -> Any:
    """Gives back `value`, which may hold no boolean at any depth: pydantic would take them for 1 and 0.

    Raises:
        ValueError: it holds one.
    """
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        no_switch(part)
    if isinstance(value, bool):
        raise ValueError("Input should not be true or false")
    return value


class Suite(StrictModel):
    """One scale: how much of the papers' protocols is run, and with what."""

    scale: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$", description="name of the scale; results lie under results/<scale>"
    )
    about: str = Field("", description="what this scale is and why it departs from the papers; stands in the report")
    threads: int = Field(1, ge=1, le=256, description="CPU threads of one job (cores)")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where to train; auto takes a GPU when there is one"
    )
    compile: Literal["auto", "never", "always"] = Field(
        "auto",
        description="torch.compile: auto decides by the expected length of a run",
    )
    deterministic: bool = Field(
        False,
        description="on a GPU: only kernels that repeat bit for bit, which are slower; a CPU repeats itself in any case",
    )
    vector_units: Literal["all", "AVX2"] = Field(
        "all",
        description="what x86 processors compute with: AVX2 gives the same numbers bit for bit where they have AVX-512",
    )
    job_minutes: float = Field(
        30.0,
        gt=0,
        le=10_000,
        description="runs are joined into one job up to this estimate (minutes on this machine), longer ones if over 500",
    )
    gpus_per_job: int = Field(
        1, ge=1, le=64, description="GPUs of one job, for runs that make use of several (torchrun)"
    )
    jobs_per_gpu: int = Field(
        1, ge=1, le=64, description="jobs that share a GPU of this machine, for runs too small to fill one"
    )
    keep: Literal["nothing", "weights", "everything"] = Field(
        "weights",
        description="artefacts kept once the runs that need them are done: nothing; the final weights; everything",
    )
    older_code: Literal["retrain", "accept"] = Field(
        "retrain", description="records of older code: train again, or judge them with the mark 'older code'"
    )
    first_seed: int = Field(
        0,
        ge=0,
        description="first seed of the block; settings are settled on seeds below 2000, and verdicts come from seeds above",
    )
    looks: tuple[int, ...] = Field(
        (),
        max_length=10,
        description="numbers of seeds at which claims may be decided; empty where the number is fixed beforehand",
    )
    only: tuple[str, ...] = Field((), description="exhibits of this scale; all when empty")
    common: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="paper -> settings that hold for every exhibit of it that knows the key"
    )
    exhibits: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="exhibit -> settings that depart from the paper's"
    )

    @field_validator("threads", "job_minutes", "gpus_per_job", "jobs_per_gpu", "first_seed", "looks", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        return no_switch(value)

    @field_validator("looks")
    @classmethod
    def _increasing(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or any(not LEAST <= n <= BLOCK for n in value):
            raise ValueError(f"Looks should be increasing numbers of seeds from {LEAST} to {BLOCK}")
        return value

    @field_validator("common", "exhibits", mode="before")
    @classmethod
    def _empty_sections(cls, value: object) -> object:
        # `warmstart/table1:` with nothing below it is YAML's null: the paper's own settings.
        if isinstance(value, dict):
            return {name: {} if settings is None else settings for name, settings in value.items()}
        return {} if value is None else value


def lines_of(
    error: ValidationError,
    where: str,
    known: Mapping[str, list[str]] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> str:
    """One line for each wrong key, at most ten: where it is, what was found, what is allowed.

    Args:
        error: of pydantic.
        where: the section that was read.
        known: section -> its keys, for the closest to an unknown one.
        elsewhere: key -> the section that it comes from, where that is another.
    """
    section, lines = where, []
    errors = error.errors()
    # A list whose item is wrong is besides too short without it: that says nothing new.
    inner = {item["loc"][:length] for item in errors for length in range(len(item["loc"]))}
    errors = [item for item in errors if item["loc"] not in inner]
    shown = errors if len(errors) <= MOST_ERRORS else errors[: MOST_ERRORS - 1]
    for item in shown:
        key = ".".join(str(part) for part in item["loc"])
        where = (elsewhere or {}).get(key.partition(".")[0], section)
        if item["type"] == "extra_forbidden":
            names = (known or {}).get(".".join(str(part) for part in item["loc"][:-1]), [])
            lines.append(f"{where}: unknown key '{key}'{closest(str(item['loc'][-1]), names) if names else ''}")
        else:
            what = item["msg"].removeprefix("Value error, ")
            # What is said of a whole section names the values itself.
            lines.append(f"{where}: {key}: {what} (found {item['input']!r:.80})" if key else f"{where}: {what}")
    if (more := len(errors) - len(shown)) > 0:
        lines.append(f"{section}: and {more} more")
    return "\n".join(lines)


def path_of(scale: str) -> Path:
    """The file of a scale given by name (``ci``) or by path.

    Raises:
        UserError: there is no such file.
    """
    path = Path(scale) if scale.endswith((".yaml", ".yml")) or "/" in scale else CONFIGS / f"{scale}.yaml"
    if not path.is_file():
        names = [known.stem for known in CONFIGS.glob("*.yaml")]
        where = "" if str(path) == scale else f" ({path})"
        raise UserError(f"{scale or repr(scale)}: no such scale file{where}{closest(scale, names)}")
    return path


class _Loader(yaml.SafeLoader):
    """Refuses what YAML 1.1 takes for something else than it says, and a key that stands twice, whose first settings
    would be lost without a word."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        meaning = self._other_meaning(node) if node.style is None else ""
        if meaning:
            problem = f"'{node.value}' means {meaning} in YAML; write what you mean, or put it in quotes"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return node

    def _other_meaning(self, node: yaml.ScalarNode) -> str:
        """What a reader would not expect: ``010`` is 8, ``1:30`` is 90 and ``no`` is false."""
        kind, text = node.tag.rpartition(":")[2], node.value
        if kind == "bool" and text.lower() not in ("true", "false"):
            return str(self.construct_yaml_bool(node)).lower()
        if kind in ("int", "float") and ":" in text:
            return "a time"
        if kind == "int" and text.lstrip("+-").replace("_", "").isdecimal():
            value = self.construct_yaml_int(node)
            return "" if int(text) == value else str(value)
        return ""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"duplicate key '{key.value}'", key.start_mark)
            seen.add(key.value)
        return node


def load(scale: str) -> Suite:
    """Reads and validates a scale file; the settings of each exhibit are validated by `bench.exhibit`.

    Raises:
        UserError: one line for each wrong key.
    """
    path = path_of(scale)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        what = "" if isinstance(error, yaml.composer.ComposerError) else "not YAML: "
        raise UserError(f"{path}{line}: {what}{getattr(error, 'problem', error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 (byte {error.start}); save it as such") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, found {type(content).__name__}")
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        raise UserError(lines_of(error, str(path), {"": list(Suite.model_fields)})) from error
