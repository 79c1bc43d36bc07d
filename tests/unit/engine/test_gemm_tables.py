"""Tables of measured products, the errors of predictions on them, and the page that states both.

The tables here are made up. The real ones are not part of the project; where a folder of them is
named, the committed page is compared with what they give.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from apexbench.engine.gemm import gemm
from apexbench.engine.gemm_check import (
    CONSTANTS,
    HEADERS,
    STANDINGS,
    Deviation,
    MeasuredTable,
    Product,
    constants_digest,
    deviations,
    products_digest,
    read_table,
    summarize,
)
from apexbench.engine.hardware import GpuProfile, list_gpus, load_gpu
from apexbench.errors import InputError, UsageError
from tests import gemm_page

HEAD = "".join(f"# {key}: {key} in words\n" for key in HEADERS)
HEAD = HEAD.replace("gpu in words", "t4").replace("standing in words", "unseen")
FOLDER = os.environ.get(gemm_page.VARIABLE)
needs_tables = pytest.mark.skipif(
    not FOLDER,
    reason="UNPROVEN: needs extracts of the tables that docs/gemm.md names; prove it with: "
    f"{gemm_page.VARIABLE}=DIR .venv/bin/python -m pytest tests/unit/engine/test_gemm_tables.py",
)
MAX_ROWS_PER_GPU = 300
SHAPES = ((1, 4096, 4096), (512, 4096, 4096), (4096, 4096, 4096))


def head(gpu: str, standing: str) -> str:
    return HEAD.replace(": t4", f": {gpu}").replace(": unseen", f": {standing}")


def made_up(gpu: str, standing: str, *slower: float) -> str:
    """A table on which predictions are off by these parts, of one shape after the other."""
    rows = "".join(
        f"{m},{n},{k},{gemm(load_gpu(gpu), k, n, 'fp16').seconds(m) * 1e6 / (1 + part):.9f}\n"
        for (m, n, k), part in zip(SHAPES, slower, strict=False)
    )
    return f"{head(gpu, standing)}m,n,k,us\n{rows}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tables = {
        "t4-x.csv": made_up("t4", "unseen", 0.05, 0.3, -0.4),
        "l4-x.csv": made_up("l4", "anchor", 0.01),
        "l4-y.csv": made_up("l4", "unproven", -0.2, -0.12),
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


# The committed page.


def test_the_committed_page_names_every_gpu_with_the_constants_it_has_now() -> None:
    lines = gemm_page.PAGE.read_text("utf-8").splitlines()
    for gpu in list_gpus():
        (row,) = (x for x in lines if x.startswith(f"| {gpu.name} |") and x.count("|") == 4)
        tables = row.split("|")[2].strip()
        now = gemm_page.profile_row(gpu, 0 if tables == "none" else int(tables))
        assert row == now, "the constants changed: make gemm TABLES=DIR"


def test_the_committed_page_has_the_words_of_the_code() -> None:
    page = gemm_page.PAGE.read_text("utf-8")
    assert page.startswith(gemm_page.INTRO)
    assert gemm_page.REBUILDING in page


@needs_tables
def test_the_committed_page_is_what_the_tables_give() -> None:
    assert FOLDER is not None
    made = gemm_page.render(Path(FOLDER))
    assert gemm_page.PAGE.read_text("utf-8") == made, "run make gemm TABLES=DIR"


@needs_tables
def test_the_tables_are_small_extracts_in_the_right_units() -> None:
    """No product runs a third beyond the datasheet's peak, or takes a tenth of a second."""
    assert FOLDER is not None
    tables = gemm_page.load_tables(Path(FOLDER))
    counts: dict[str, int] = {}
    for name, table in tables.items():
        assert name.startswith(f"{table.gpu}-")
        counts[table.gpu] = counts.get(table.gpu, 0) + len(table.products)
        peak = load_gpu(table.gpu).peak_tflops.value * 1e12
        for p in table.products:
            assert 2 * p.rows * p.outputs * p.inputs / p.seconds < 4 / 3 * peak
            assert p.seconds < 0.1
    assert max(counts.values()) <= MAX_ROWS_PER_GPU


# A page of made-up tables.


def test_a_page_has_a_row_per_gpu_and_standing(folder: Path) -> None:
    page = gemm_page.render(folder)
    every = page.partition("## All products")[2].partition("## ")[0]
    assert [line for line in every.splitlines() if line.endswith("4096 |")] == [
        "| l4 | unproven | 2 | 16.0% | -16.0% | -20.0% | 1 x 4096 x 4096 |",
        "| l4 | anchor | 1 | 1.0% | +1.0% | +1.0% | 1 x 4096 x 4096 |",
        "| t4 | unseen | 3 | 30.0% | +5.0% | -40.0% | 4096 x 4096 x 4096 |",
        _row_of_burst(folder),
    ]


def _row_of_burst(folder: Path) -> str:
    """A variant is held against the table of its base GPU."""
    products = gemm_page.load_tables(folder)["t4-x.csv"].products
    found = summarize(deviations(load_gpu("t4:burst"), products))
    assert found is not None
    return (
        f"| t4:burst | unseen | 3 | {found.median:.1%} | {found.signed_median:+.1%} | "
        f"{found.worst.relative:+.1%} | {found.worst.product.shape} |"
    )


def test_a_page_says_in_words_what_is_poor_bad_or_unchecked(folder: Path) -> None:
    page = gemm_page.render(folder)
    for sentence in (
        "Only the tables of t4 are unseen: 3 products, median error 30.0%, worst -40.0%.",
        "t4, m > 64: **bad**, median error 35.0%; the typical prediction is 5.0% too fast.",
        "l4, m > 64: **poor**, median error 12.0%; the typical prediction is 12.0% too fast.",
        "t4:burst is held against a table of long runs",
        "No table at all was found for a10, a100-80g, a10g, a40, h100,",
    ):
        assert f"- {sentence}" in page
    assert "- t4, m <= 64" not in page


def test_a_page_says_what_each_table_may_prove(folder: Path) -> None:
    page = gemm_page.render(folder)
    for standing, names in zip(STANDINGS, ("t4, t4:burst", "l4", "l4"), strict=True):
        (line,) = (x for x in page.splitlines() if x.startswith(f"- **{standing}**: the"))
        assert line.endswith(f" ({names}).")
    (folder / "t4-x.csv").unlink()
    assert "No table is unseen: nothing here tests the method." in gemm_page.render(folder)


def test_a_page_states_origins_and_no_measured_time(folder: Path) -> None:
    page = gemm_page.render(folder)
    for name, table in gemm_page.load_tables(folder).items():
        own = page.partition(f"### {name}\n")[2].partition("### ")[0]
        assert "- source: repository in words, path in words; commit: commit in words\n" in own
        assert f"- **{table.standing}**: why in words\n" in own
        assert f"- SHA-256 of the extract: {products_digest(table.products)}\n" in own
        for product in table.products:
            assert f"{product.seconds * 1e6:.2f}" not in page
    assert "- products: m 1, 512, 4096 with n x k 4096 x 4096\n" in page
    assert "- products: m 1, 512 with n x k 4096 x 4096\n" in page


# The folder.


def test_the_folder_is_the_option_then_the_variable() -> None:
    env = {gemm_page.VARIABLE: "from-env"}
    assert gemm_page.tables_folder(Path("given"), env) == Path("given")
    assert gemm_page.tables_folder(None, env) == Path("from-env")
    with pytest.raises(UsageError, match="give --tables DIR or set APEXBENCH_GEMM_TABLES"):
        gemm_page.tables_folder(None, {})


def test_a_folder_without_tables_gets_one_sentence(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="no tables in"):
            gemm_page.load_tables(folder)


def test_a_table_of_an_unknown_gpu_or_of_a_variant_is_refused(folder: Path) -> None:
    (folder / "z.csv").write_text(f"{head('t4:burst', 'unseen')}m,n,k,us\n1,1,1,1\n", "utf-8")
    with pytest.raises(InputError, match=r"table 'z\.csv': unknown GPU 't4:burst'"):
        gemm_page.load_tables(folder)


def test_the_command_writes_the_page_or_says_why_not(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.md"
    gemm_page.main(["--tables", str(folder), "--out", str(out)])
    assert out.read_text("utf-8") == gemm_page.render(folder)
    with pytest.raises(SystemExit) as left:
        gemm_page.main(["--tables", str(folder / "absent"), "--out", str(out)])
    assert left.value.code == InputError.exit_code
    assert "no tables in" in capsys.readouterr().err


# Tables, errors and digests.


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_digest_of_a_profile_shows_a_changed_constant(name: str) -> None:
    gpu = load_gpu("t4")
    constant = getattr(gpu, name)
    changes = {name: replace(constant, value=constant.value * 1.001)}
    changed: GpuProfile = replace(gpu, **changes)
    assert constants_digest(changed) != constants_digest(gpu)
    other = replace(gpu, kernel_latency_us=replace(gpu.kernel_latency_us, value=1.0))
    assert constants_digest(other) == constants_digest(gpu)


def test_the_digest_of_a_profile_shows_a_changed_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    before = constants_digest(load_gpu("t4"))
    monkeypatch.setattr("apexbench.engine.gemm.EXPONENT", 3.1)
    assert constants_digest(load_gpu("t4")) != before


def test_the_digest_of_products_is_free_of_order_and_unit() -> None:
    def digest(text: str) -> str:
        table: MeasuredTable = read_table(HEAD + text, "x.csv")
        return products_digest(table.products)

    by_time = digest("m,n,k,us\n10,100,1000,50\n1,1,1,2\n")
    assert digest("k,n,m,tflops,dtype\n1,1,1,1e-6,a\n1000,100,10,0.04,b\n") == by_time
    assert digest("m,n,k,us\n10,100,1000,50\n1,1,1,2.001\n") != by_time


def test_time_and_rate_columns_mean_the_same() -> None:
    by_time = read_table(f"{HEAD}m,n,k,us\n10,100,1000,50\n", "a.csv")
    by_rate = read_table(f"{HEAD}m,n,k,tflops\n10,100,1000,0.04\n", "b.csv")
    assert by_time.products[0].seconds == pytest.approx(50e-6)
    assert by_rate.products[0].seconds == pytest.approx(50e-6)
    assert by_time.products[0].shape == "10 x 100 x 1000"


def test_a_deviation_is_positive_where_the_prediction_is_too_slow() -> None:
    assert Deviation(Product(1, 8, 8, 2.0), 3.0).relative == pytest.approx(0.5)
    (found,) = deviations(load_gpu("t4"), [Product(1, 4096, 4096, 1.0)])
    assert found.relative < -0.99
    assert found.is_weight_bound


def test_a_summary_keeps_the_sign_of_the_median_and_of_the_worst() -> None:
    product = Product(65, 8, 8, 1.0)
    found = summarize(Deviation(product, seconds) for seconds in (1.2, 0.9, 0.3))
    assert found is not None
    assert (found.count, found.worst.predicted_s) == (3, 0.3)
    assert found.median == pytest.approx(0.2)
    assert found.signed_median == pytest.approx(-0.1)
    assert summarize([]) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("m,n,k,us\n1,1,1,1\n", "lacks '# gpu: ...'"),
        (HEAD.replace("unseen", "sure") + "m,n,k,us\n1,1,1,1\n", "has standing 'sure'"),
        (f"{HEAD}m,n,k,us\n", "holds no products"),
        (f"{HEAD}m,n,k,us\n1,1,1,1\n1,1,1,-4\n", "row 2 of table 'x.csv' is no product"),
        (f"{HEAD}m,n,k,tflops\n1,1,1,0\n", "row 1 of table"),
        (f"{HEAD}m,n,k,us\n1,1,1,nan\n", "row 1 of table"),
        (f"{HEAD}m,n,k,us\n0,1,1,3\n", "row 1 of table"),
        (f"{HEAD}m,n,us\n1,1,3\n", "row 1 of table"),
    ],
)
def test_a_malformed_table_gets_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        read_table(text, "x.csv")
    assert sentence in str(error.value)
