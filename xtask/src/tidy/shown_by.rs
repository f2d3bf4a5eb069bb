//! Checks that every test, or module of tests, that a page names exists.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::command::root;

/// Folder of the pages. They name tests in the column `test` of their tables, and in paragraphs
/// that begin with [`SHOWN_BY`].
const PAGES: &str = "docs";
/// Page that must name a test in every section.
const BY_EXAMPLE: &str = "daemonsets.md";
/// Begin of a paragraph with tests.
const SHOWN_BY: &str = "Shown by ";
/// Heading of the column with tests.
const COLUMN: &str = "test";

/// Checks the pages against the functions and modules in `sources`.
pub(super) fn check(sources: &[String], breaches: &mut Vec<String>) -> Result<()> {
    // A page may name a module of tests instead of each test.
    let known: BTreeSet<&str> = sources
        .iter()
        .flat_map(|text| named_after("fn ", text).chain(named_after("mod ", text)))
        .collect();
    let folder = root().join(PAGES);
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry
            .with_context(|| format!("read {}", folder.display()))?
            .path();
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let page = path.strip_prefix(root()).unwrap_or(&path).display();
        if path.ends_with(BY_EXAMPLE) {
            let bare = sections_without_tests(&text);
            breaches.extend(
                bare.iter()
                    .map(|section| format!("{page}: the section \"{section}\" names no test")),
            );
        }
        for test in named(&text) {
            // `crate::name`: the crate is only for the reader.
            let name = test.rsplit("::").next().unwrap_or(test);
            if !known.contains(name) {
                breaches.push(format!("{page}: names the test `{test}`, which is not there"));
            }
        }
    }
    Ok(())
}

/// Returns the names that follow a keyword in Rust source.
fn named_after<'a>(keyword: &'a str, text: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(keyword).skip(1).map(|rest| {
        let end = rest
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

/// Returns the tests that a page names, in order.
fn named(page: &str) -> Vec<&str> {
    let mut tests = Vec::new();
    let (mut column, mut listing) = (None, false);
    for line in page.lines() {
        listing = line.starts_with(SHOWN_BY) || (listing && !line.is_empty());
        if listing {
            tests.extend(quoted(line));
        } else if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            match column {
                None => column = Some(cells.iter().position(|cell| *cell == COLUMN)),
                Some(index) => tests.extend(
                    index
                        .and_then(|index| cells.get(index))
                        .into_iter()
                        .flat_map(|cell| quoted(cell)),
                ),
            }
        } else {
            column = None;
        }
    }
    tests
}

/// Returns the titles of sections without a test. A section with subsections may have its tests
/// there.
fn sections_without_tests(page: &str) -> Vec<&str> {
    let sections = page.split("\n## ").skip(1);
    let smaller = sections.flat_map(|section| {
        let mut parts: Vec<&str> = section.split("\n### ").collect();
        if parts.len() > 1 {
            parts.remove(0);
        }
        parts
    });
    smaller
        .filter(|section| named(section).is_empty())
        .filter_map(|section| section.lines().next())
        .collect()
}

/// Returns the texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_in_tables_and_after_their_opening_words() {
        let page = "`not_this`\n\n| what | test | else |\n|---|---|---|\n| `no` | `one`, `plan::two` | `no` |\n\n\
                    | name | value |\n|---|---|\n| `no` | `no` |\n\nShown by `three`,\n`four`.\n\n`not_this`\n";
        assert_eq!(named(page), ["one", "plan::two", "three", "four"]);
    }

    #[test]
    fn sections_without_tests_are_named() {
        let page = "# A\n\n## One\n\nShown by `a`.\n\n## Two\n\ntext\n\n## Three\n\n### Four\n\nShown by `b`.\n\n### Five\n\nx\n";
        assert_eq!(sections_without_tests(page), ["Two", "Five"]);
    }

    #[test]
    fn functions_and_modules_are_found_by_their_names() {
        let text = "async fn a_daemon_runs() {}\nmod of_two {\n    fn b<T>(x: T) {}";
        assert_eq!(
            named_after("fn ", text).collect::<Vec<_>>(),
            ["a_daemon_runs", "b"]
        );
        assert_eq!(named_after("mod ", text).collect::<Vec<_>>(), ["of_two"]);
    }
}
