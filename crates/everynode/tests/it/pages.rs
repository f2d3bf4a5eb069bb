//! The commands of the documentation, run as they stand there, one block after the other.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testkit::{Process, kubectls, skip};

/// Where the page has its data directory.
const DATA_DIR: &str = "/tmp/try";
/// Seconds after which a page is given up; it takes some ten.
const PATIENCE: &str = "300";
/// Before a block that nobody can paste into the terminal in which the others run; the reason follows.
const NOT_RUN: &str = "<!-- not run: ";
/// Before a block that shows what is refused; words of the refusal follow.
const REFUSED: &str = "<!-- refused: ";

/// What the commands of a page are, in one shell.
#[derive(Default)]
struct Page {
    /// Each with the words with which it must be refused, if it must.
    commands: Vec<(String, Option<String>)>,
    /// The text of files, by name: blocks of YAML that begin with a comment of the name.
    files: BTreeMap<String, String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut mark = "";
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(language) = line.strip_prefix("```") else {
                mark = if line.starts_with("<!--") { line } else { "" };
                continue;
            };
            let mut block = String::new();
            for line in lines.by_ref().take_while(|line| *line != "```") {
                block.push_str(line);
                block.push('\n');
            }
            match language {
                "sh" if !mark.starts_with(NOT_RUN) => {
                    let words = mark.strip_prefix(REFUSED);
                    let words = words.and_then(|words| words.strip_suffix(" -->"));
                    page.commands.push((block, words.map(str::to_owned)));
                }
                "yaml" => {
                    let name = block.lines().next().and_then(|first| first.strip_prefix("# "));
                    if let Some(name) = name.map(str::to_owned) {
                        page.files.insert(name, block);
                    }
                }
                _ => {}
            }
            mark = "";
        }
        page
    }

    /// One script for bash: it ends at the first block that does not do what it should, and names its first line.
    fn script(&self) -> String {
        let mut script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n".to_owned();
        for (block, refused) in &self.commands {
            let first = quoted(block.lines().next().unwrap_or_default());
            script.push_str(&format!("echo --- {first} >&2\n"));
            let step = match refused {
                None => format!("{block}\n"),
                Some(words) => format!(
                    "if (\n{block}\n) 2> refusal; then\necho 'this was not refused' >&2\nexit 1\nfi\n\
                     cat refusal >&2\ngrep -qF {} refusal\n",
                    quoted(words)
                ),
            };
            script.push_str(&step);
        }
        script
    }
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn every_command_of_the_page_works() -> Result<()> {
    let programs = kubectls();
    if programs.is_empty() {
        skip("no kubectl is here");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/daemonsets.md");
    let page = Page::read(&std::fs::read_to_string(&path).context("read the page")?);
    for kubectl in programs {
        follow(&page, &kubectl).with_context(|| format!("with {}", kubectl.display()))?;
    }
    Ok(())
}

fn follow(page: &Page, kubectl: &Path) -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let _nodes = server.simulate(3, "node")?;
    let folder = server.folder().join("page");
    std::fs::create_dir_all(folder.join("bin")).context("make a folder")?;
    for (name, text) in &page.files {
        std::fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    for (name, program) in [("kubectl", kubectl), ("everynode", super::binary())] {
        symlink(program, folder.join("bin").join(name)).with_context(|| format!("link {name}"))?;
    }
    let path = std::env::var("PATH").context("PATH")?;
    let script = page
        .script()
        .replace(DATA_DIR, &server.data_dir().display().to_string());
    let done = Command::new("timeout")
        .args([PATIENCE, "bash", "-c", &script])
        .current_dir(&folder)
        .env("PATH", format!("{}:{path}", folder.join("bin").display()))
        .env("HOME", &folder)
        .stdin(Stdio::null())
        .output()
        .context("run the page's commands")?;
    let (said, warned) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    ensure!(done.status.success(), "{}: {said}\n{warned}", done.status);
    Ok(())
}

#[test]
fn a_page_is_read_block_by_block() {
    let text = "```sh\none\n```\n\n<!-- not run: no -->\n```sh\ntwo\n```\n<!-- refused: as it is wrong -->\n```sh\nthree\nfour\n```\n\
                ```yaml\n# a.yaml\nx: 1\n```\n```\nfive\n```\n";
    let page = Page::read(text);
    let commands = [
        ("one\n".to_owned(), None),
        ("three\nfour\n".to_owned(), Some("as it is wrong".to_owned())),
    ];
    assert_eq!(page.commands, commands);
    assert_eq!(page.files["a.yaml"], "# a.yaml\nx: 1\n");
}

/// Pages that tell which flags to type.
const GUIDES: [&str; 6] = [
    "README.md",
    "docs/daemonsets.md",
    "docs/join.md",
    "docs/names.md",
    "docs/network.md",
    "docs/why-and-plan.md",
];
/// Flags on these pages that are other programs'.
const OTHERS: [&str; 9] = [
    "--add-source",
    "--collector",
    "--no-collector",
    "--now",
    "--package",
    "--permanent",
    "--release",
    "--tcp",
    "--zone",
];

/// The flags that a line names.
fn flags(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words.filter(|word| {
        word.strip_prefix("--")
            .is_some_and(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()))
    })
}

/// What `everynode VERB --help` says; verbs of verbs are separated by blanks.
fn help(verb: &str) -> Result<String> {
    let words = verb.split_whitespace().chain(["--help"]);
    let said = Command::new(super::binary())
        .args(words)
        .output()
        .context("ask for help")?;
    ensure!(said.status.success(), "everynode {verb} --help");
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

#[test]
fn every_flag_that_the_pages_name_exists() -> Result<()> {
    let verbs: BTreeMap<&str, String> = [
        "up",
        "server",
        "agent",
        "token create",
        "token list",
        "token delete",
        "kubeconfig",
        "store backup",
        "store restore",
        "simulate",
        "image import",
        "why",
        "plan",
        "get",
        "describe",
        "events",
        "logs",
        "exec",
        "apply",
        "create",
        "delete",
        "rollout status",
        "label",
        "annotate",
        "taint",
        "cordon",
        "uncordon",
        "drain",
    ]
    .into_iter()
    .map(|verb| Ok((verb, help(verb)?)))
    .collect::<Result<_>>()?;
    let has = |help: &str, flag: &str| {
        let mut words = help.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        words.any(|word| word == flag)
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut missing = Vec::new();
    for page in GUIDES {
        let text = std::fs::read_to_string(root.join(page)).with_context(|| format!("read {page}"))?;
        for line in text.lines() {
            // What follows a verb is the verb's, up to the end of the command.
            for command in line.split("everynode ").skip(1) {
                let end = command.find(['`', '#', '|', '&']).unwrap_or(command.len());
                let of_verb = verbs.iter().find(|(verb, _)| command.starts_with(**verb));
                if let Some((verb, help)) = of_verb {
                    let unknown = flags(&command[..end]).filter(|flag| !has(help, flag));
                    missing.extend(unknown.map(|flag| format!("{page}: everynode {verb} {flag}")));
                }
            }
            let known = |flag: &str| OTHERS.contains(&flag) || verbs.values().any(|help| has(help, flag));
            missing.extend(
                flags(line)
                    .filter(|flag| !known(flag))
                    .map(|flag| format!("{page}: {flag}")),
            );
        }
    }
    ensure!(missing.is_empty(), "{missing:#?}");
    Ok(())
}
