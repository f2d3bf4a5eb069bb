//! Prints the server's `Table` objects in aligned columns.

use serde_json::Value;

/// Spaces between two columns, as in kubectl.
const GAP: usize = 3;

/// Parts of a table that are printed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// Whether to print columns of lower priority (`-o wide`).
    pub(crate) wide: bool,
    /// Whether to print a NAMESPACE column first.
    pub(crate) namespace: bool,
    /// Whether to print a LABELS column last.
    pub(crate) labels: bool,
    /// Whether to omit the header line.
    pub(crate) no_headers: bool,
    /// Whether to write `kind/name` in the NAME column, as for several kinds.
    pub(crate) with_kind: bool,
}

/// Columns of a table. They are kept between responses, because a watch sends them only with its
/// first event.
pub(crate) struct Printer {
    shape: Shape,
    prefix: Option<String>,
    columns: Vec<(usize, String)>,
    name_column: Option<usize>,
    widths: Vec<usize>,
    header_due: bool,
}

impl Printer {
    /// Returns a printer without columns. `display` is the resource's name for `kind/name`.
    pub(crate) fn new(shape: Shape, display: &str) -> Self {
        Self {
            prefix: shape.with_kind.then(|| format!("{display}/")),
            shape,
            columns: Vec::new(),
            name_column: None,
            widths: Vec::new(),
            header_due: !shape.no_headers,
        }
    }

    /// Returns the lines of `table`, each with a newline. The header is returned only once.
    pub(crate) fn render(&mut self, table: &Value) -> String {
        self.learn_columns(table);
        let rows: Vec<Vec<String>> = array(&table["rows"]).map(|row| self.cells(row)).collect();
        let header = (std::mem::take(&mut self.header_due)).then(|| self.header());
        let lines: Vec<&Vec<String>> = header.iter().chain(&rows).collect();
        for line in &lines {
            self.widths.resize(self.widths.len().max(line.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(line.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        lines.iter().map(|line| self.line(line)).collect()
    }

    fn learn_columns(&mut self, table: &Value) {
        let definitions: Vec<&Value> = array(&table["columnDefinitions"]).collect();
        if definitions.is_empty() {
            return;
        }
        let shown = definitions
            .iter()
            .enumerate()
            .filter(|(_, column)| self.shape.wide || column["priority"].as_i64().unwrap_or(0) == 0);
        self.columns = shown
            .map(|(index, column)| (index, column["name"].as_str().unwrap_or_default().to_uppercase()))
            .collect();
        self.name_column = definitions.iter().position(|column| column["format"] == "name");
    }

    fn header(&self) -> Vec<String> {
        let mut cells: Vec<String> = self.columns.iter().map(|(_, name)| name.clone()).collect();
        if self.shape.namespace {
            cells.insert(0, "NAMESPACE".to_owned());
        }
        if self.shape.labels {
            cells.push("LABELS".to_owned());
        }
        cells
    }

    fn cells(&self, row: &Value) -> Vec<String> {
        let metadata = &row["object"]["metadata"];
        let mut cells: Vec<String> = Vec::with_capacity(self.columns.len() + 2);
        if self.shape.namespace {
            cells.push(metadata["namespace"].as_str().unwrap_or_default().to_owned());
        }
        for (index, _) in &self.columns {
            let cell = plain(&row["cells"][*index]);
            match &self.prefix {
                Some(prefix) if Some(*index) == self.name_column => cells.push(format!("{prefix}{cell}")),
                _ => cells.push(cell),
            }
        }
        if self.shape.labels {
            cells.push(labels(&metadata["labels"]));
        }
        cells
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            line.push_str(cell);
            if index + 1 < cells.len() {
                let padding = self.widths[index] + GAP - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        line.push('\n');
        line
    }
}

/// Returns `a=1,b=2`, or `<none>`.
pub(crate) fn labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// Returns a cell as text without line breaks, which would break the table.
fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Columns of the client's own lists, in the layout of the server's tables. The widths are kept
/// between calls, so that later rows align with earlier ones.
pub(crate) struct Columns {
    gap: usize,
    widths: Vec<usize>,
}

impl Columns {
    /// Returns columns with `gap` spaces between them.
    pub(crate) fn new(gap: usize) -> Self {
        Self {
            gap,
            widths: Vec::new(),
        }
    }

    /// Returns the lines of `rows`, each with a newline.
    pub(crate) fn lines(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let gap = self.gap;
        let line = |row: &Vec<String>| {
            let cells: String = row
                .iter()
                .zip(&self.widths)
                .map(|(cell, width)| format!("{cell:<width$}{:gap$}", ""))
                .collect();
            format!("{}\n", cells.trim_end())
        };
        rows.iter().map(line).collect()
    }
}

/// Formats `rows` in columns.
pub(crate) fn columns(rows: &[Vec<String>], gap: usize) -> String {
    Columns::new(gap).lines(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pods() -> Value {
        json!({
            "columnDefinitions": [
                {"name": "Name", "format": "name", "priority": 0},
                {"name": "Ready", "priority": 0},
                {"name": "Node", "priority": 1},
            ],
            "rows": [
                {"cells": ["fluentd-7v2t7", "1/1", "a"], "object": {"metadata": {"namespace": "kube-system", "labels": {"app": "x"}}}},
                {"cells": ["web", "0/1", null], "object": {"metadata": {"namespace": "default"}}},
            ],
        })
    }

    #[test]
    fn columns_are_aligned_and_the_narrow_form_hides_the_wide_ones() {
        let text = Printer::new(Shape::default(), "pod").render(&pods());
        assert_eq!(
            text,
            "NAME            READY\nfluentd-7v2t7   1/1\nweb             0/1\n"
        );
    }

    #[test]
    fn wide_namespace_and_labels_add_columns() {
        let shape = Shape {
            wide: true,
            namespace: true,
            labels: true,
            ..Shape::default()
        };
        let text = Printer::new(shape, "pod").render(&pods());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAMESPACE     NAME            READY   NODE     LABELS");
        assert_eq!(lines[1], "kube-system   fluentd-7v2t7   1/1     a        app=x");
        assert_eq!(lines[2], "default       web             0/1     <none>   <none>");
    }

    #[test]
    fn a_watch_prints_its_header_once_and_remembers_the_columns() {
        let mut printer = Printer::new(
            Shape {
                with_kind: true,
                ..Shape::default()
            },
            "pod",
        );
        assert!(printer.render(&pods()).starts_with("NAME "));
        let later = json!({"columnDefinitions": null, "rows": [{"cells": ["web", "1/1", "b"]}]});
        assert_eq!(printer.render(&later), "pod/web             1/1\n");
    }
}
