//! Reads manifests from files, folders and standard input: YAML or JSON, one or several documents.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use schema::decode::{self, Format};
use serde_json::Value;

/// An object of a manifest and its source.
pub(crate) struct Document {
    /// Path as the user wrote it, or `STDIN`.
    pub(crate) source: String,
    pub(crate) object: Value,
}

impl Document {
    pub(crate) fn api_version(&self) -> &str {
        self.object["apiVersion"].as_str().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Returns the namespace for the request: the document's own, or else `fallback`. Fails if the
    /// document's namespace contradicts `-n`.
    pub(crate) fn namespace<'a>(&'a self, fallback: &'a str, given: bool) -> Result<&'a str> {
        match self.object["metadata"]["namespace"]
            .as_str()
            .filter(|own| !own.is_empty())
        {
            Some(own) if given && own != fallback => bail!(
                "the namespace from the provided object \"{own}\" does not match the namespace \"{fallback}\". You must pass '--namespace={own}' to perform this operation."
            ),
            Some(own) => Ok(own),
            None => Ok(fallback),
        }
    }
}

/// Reads all objects of `names` (files, folders, `-`), in order.
pub(crate) fn read(names: &[PathBuf]) -> Result<Vec<Document>> {
    if names.is_empty() {
        bail!(
            "must specify one of -f and -k: name a manifest with -f FILE, a folder of them, or -f - for standard input"
        );
    }
    let mut documents = Vec::new();
    for name in names {
        let url = name
            .to_str()
            .is_some_and(|name| name.starts_with("http://") || name.starts_with("https://"));
        if url {
            bail!(
                "{} is a URL, which is not read: download it, or pipe it in with `curl … | everynode … -f -`",
                name.display()
            );
        }
        if name == Path::new("-") {
            let mut text = Vec::new();
            std::io::stdin()
                .read_to_end(&mut text)
                .context("read standard input")?;
            parse("STDIN", &text, &mut documents)?;
        } else if name.is_dir() {
            for file in manifests_in(name)? {
                read_file(&file, &mut documents)?;
            }
        } else {
            read_file(name, &mut documents)?;
        }
    }
    if documents.is_empty() {
        bail!("no objects passed to create");
    }
    Ok(documents)
}

fn manifests_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("read the folder {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("read the folder {}", folder.display()))?
            .path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, documents: &mut Vec<Document>) -> Result<()> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("the path \"{}\" does not exist", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    parse(&path.display().to_string(), &text, documents)
}

fn parse(source: &str, text: &[u8], documents: &mut Vec<Document>) -> Result<()> {
    for part in split(text) {
        let format = if part.trim_ascii_start().starts_with(b"{") {
            Format::Json
        } else {
            Format::Yaml
        };
        if lost_indentation(part) {
            bail!(
                "error parsing {source}: none of its lines is indented, as those below `metadata:` must be: was that lost when it was copied?"
            );
        }
        let object = decode::untyped(part, format).with_context(|| format!("error parsing {source}"))?;
        add(source, object, documents)?;
    }
    Ok(())
}

/// Returns whether a manifest lost its indentation, for example when it was copied from a web page.
fn lost_indentation(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.clone().any(|line| line.trim_ascii_end() == b"metadata:")
        && lines.all(|line| {
            line.first()
                .is_none_or(|first| !first.is_ascii_whitespace() || line.trim_ascii().is_empty())
        })
}

/// Adds an object. Expands a `List` and skips an empty document.
fn add(source: &str, object: Value, documents: &mut Vec<Document>) -> Result<()> {
    if object.is_null() {
        return Ok(());
    }
    let document = Document {
        source: source.to_owned(),
        object,
    };
    for (field, value) in [("apiVersion", document.api_version()), ("kind", document.kind())] {
        if value.is_empty() {
            bail!("error validating \"{source}\": error validating data: {field} not set");
        }
    }
    if document.kind() != "List" {
        documents.push(document);
        return Ok(());
    }
    let mut list = document.object;
    let Value::Array(items) = list["items"].take() else {
        bail!("error validating \"{source}\": error validating data: a List has items");
    };
    items
        .into_iter()
        .try_for_each(|item| add(source, item, documents))
}

/// Splits a YAML stream into documents. A line that begins with `---` ends a document.
fn split(text: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut line_start = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let marker = line
            .strip_prefix(b"---")
            .is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace));
        if marker {
            parts.push(&text[start..line_start]);
            start = line_start + line.len();
        }
        line_start += line.len();
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim_ascii().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<String>> {
        let mut documents = Vec::new();
        parse("test.yaml", text.as_bytes(), &mut documents)?;
        Ok(documents
            .iter()
            .map(|document| format!("{}/{}", document.kind(), document.name()))
            .collect())
    }

    #[test]
    fn a_stream_holds_several_documents() {
        let stream = "---\napiVersion: v1\nkind: A\nmetadata: {name: x}\n---\n# nothing\n--- \napiVersion: v1\nkind: B\n";
        assert_eq!(kinds(stream).unwrap(), ["A/x", "B/"]);
    }

    #[test]
    fn a_manifest_that_lost_its_indentation_is_told_so() {
        let flat = "apiVersion: v1\nkind: A\nmetadata:\nname: x\nspec:\ntolerations:\n- key: a\neffect: b\n";
        let error = kinds(flat).unwrap_err();
        assert!(
            format!("{error:#}").contains("none of its lines is indented"),
            "{error:#}"
        );
        let wrong = "apiVersion: v1\nkind: A\nmetadata:\n  name: x\n\tlabels: {}\n";
        let error = kinds(wrong).unwrap_err();
        assert!(!format!("{error:#}").contains("indented"), "{error:#}");
    }

    #[test]
    fn a_list_is_opened_up() {
        let list = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"A","metadata":{"name":"x"}}]}"#;
        assert_eq!(kinds(list).unwrap(), ["A/x"]);
    }

    #[test]
    fn a_document_without_a_kind_is_refused_with_the_file_named() {
        let error = kinds("apiVersion: v1\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "error validating \"test.yaml\": error validating data: kind not set"
        );
    }

    #[test]
    fn the_namespace_of_the_flag_must_not_contradict_the_document() {
        let mut documents = Vec::new();
        parse(
            "x",
            b"apiVersion: v1\nkind: A\nmetadata: {namespace: one}\n",
            &mut documents,
        )
        .unwrap();
        assert_eq!(documents[0].namespace("two", false).unwrap(), "one");
        assert!(documents[0].namespace("two", true).is_err());
    }
}
