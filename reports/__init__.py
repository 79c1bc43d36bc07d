"""From a result document to what people read: HTML, terminal, Markdown, trace files."""

if __name__ != "apexbench.reports":
    raise ImportError("import 'apexbench.reports', not 'reports': the bare name is not installed")
