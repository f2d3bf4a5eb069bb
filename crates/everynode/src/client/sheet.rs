//! Text with aligned columns, as `describe` and `history` print it.

use std::fmt::Write;

/// Spaces after the widest cell of a column.
const GAP: usize = 2;

/// Lines whose cells end with a tab. The width of a column is that of its widest cell among
/// consecutive lines with that column. This is the rule of Go's tabwriter, which kubectl uses.
#[derive(Default)]
pub(crate) struct Sheet {
    text: String,
}

impl Sheet {
    /// Adds a line, indented by `depth` times two spaces.
    pub(crate) fn line(&mut self, depth: usize, text: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(self.text, "{:1$}{text}", "", depth * 2);
    }

    /// Adds `name:` and its value. Further lines of the value are aligned below the first.
    pub(crate) fn field(&mut self, depth: usize, name: &str, value: impl std::fmt::Display) {
        let value = value.to_string();
        let mut lines = value.lines();
        self.line(
            depth,
            format_args!("{name}:\t{}", lines.next().unwrap_or_default()),
        );
        for line in lines {
            self.line(depth, format_args!("\t{line}"));
        }
    }

    /// Returns the text with aligned columns.
    pub(crate) fn finish(self) -> String {
        let mut lines: Vec<Vec<String>> = self
            .text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect();
        let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
        for column in 0..columns.saturating_sub(1) {
            let has = |line: &Vec<String>| line.len() > column + 1;
            let mut start = 0;
            while start < lines.len() {
                let end = start + lines[start..].iter().take_while(|line| has(line)).count();
                let width = lines[start..end]
                    .iter()
                    .map(|line| line[column].chars().count())
                    .max()
                    .unwrap_or(0);
                for line in &mut lines[start..end] {
                    let padding = width + GAP - line[column].chars().count();
                    line[column].extend(std::iter::repeat_n(' ', padding));
                }
                start = end.max(start + 1);
            }
        }
        lines
            .iter()
            .map(|line| format!("{}\n", line.concat().trim_end()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_lines_share_a_column_and_others_do_not() {
        let mut sheet = Sheet::default();
        sheet.field(0, "Name", "x");
        sheet.field(0, "Namespace", "kube-system");
        sheet.line(0, "Pod Template:");
        sheet.field(1, "Labels", "a=1\nb=2");
        let text = sheet.finish();
        assert_eq!(
            text,
            "Name:       x\nNamespace:  kube-system\nPod Template:\n  Labels:  a=1\n           b=2\n"
        );
    }
}
