//! Pairs of a key and a value in an object's metadata, for `label` and `annotate`.
//!
//! The arguments, their order, the messages and the exit codes are kubectl's, because scripts parse
//! them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload};
use crate::client::dry_run::{DryRun, DryRunArgs};
use crate::client::error::Failures;
use crate::client::output::{self, Output};
use crate::client::resources::Resources;
use crate::client::selection::{Chosen, SelectArgs};

/// Which map of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Labels,
    Annotations,
}

/// The words and flags of both verbs.
#[derive(Args, Debug)]
pub(crate) struct PairArgs {
    /// Objects, then `KEY=VALUE` to set a key or `KEY-` to remove it
    #[arg(value_name = "TYPE NAME | TYPE/NAME | KEY=VALUE | KEY-")]
    words: Vec<String>,

    #[command(flatten)]
    select: SelectArgs,

    /// Change existing keys as well
    #[arg(long)]
    overwrite: bool,

    /// List the existing keys and values
    #[arg(long)]
    list: bool,

    /// Change the object only if it has this resource version
    #[arg(long, value_name = "VERSION")]
    resource_version: Option<String>,

    #[command(flatten)]
    dry_run: DryRunArgs,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

/// Pairs to set and keys to remove.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    set: BTreeMap<String, String>,
    remove: BTreeSet<String>,
}

impl Sort {
    fn field(self) -> &'static str {
        match self {
            Sort::Labels => "labels",
            Sort::Annotations => "annotations",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Sort::Labels => "label",
            Sort::Annotations => "annotation",
        }
    }
}

/// Splits the words into objects and pairs; the pairs come last.
fn part(words: &[String], sort: Sort) -> Result<(&[String], &[String])> {
    let is_pair = |word: &String| {
        (word.contains('=') && !word.starts_with('=')) || (word.ends_with('-') && word != "-")
    };
    let first = words.iter().position(is_pair).unwrap_or(words.len());
    let (objects, pairs) = words.split_at(first);
    if let Some(stray) = pairs.iter().find(|word| !is_pair(word)) {
        bail!(
            "all resources must be specified before {} changes: {stray}",
            sort.singular()
        );
    }
    Ok((objects, pairs))
}

impl Change {
    fn parse(words: &[String], sort: Sort) -> Result<Change> {
        let mut change = Change::default();
        for word in words {
            match (word.split_once('='), sort) {
                (Some((_, value)), Sort::Labels) if value.contains('=') => {
                    bail!("invalid label spec: {word}")
                }
                (Some((key, value)), _) => {
                    if sort == Sort::Labels {
                        let mut messages = Vec::new();
                        api::validate::name::label_value(value, &mut messages);
                        if !messages.is_empty() {
                            bail!("invalid label value: {word:?}: {}", messages.join(";"));
                        }
                    }
                    change.set.insert(key.to_owned(), value.to_owned());
                }
                (None, _) => {
                    change.remove.insert(word.trim_end_matches('-').to_owned());
                }
            }
        }
        let both: Vec<&str> = change
            .remove
            .iter()
            .filter(|key| change.set.contains_key(*key))
            .map(String::as_str)
            .collect();
        match sort {
            _ if both.is_empty() => Ok(change),
            Sort::Labels => bail!("can not both modify and remove a label in the same command"),
            Sort::Annotations => bail!(
                "can not both modify and remove the following annotation(s) in the same command: {}",
                both.join(", ")
            ),
        }
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Fails if the change would overwrite an existing value.
    fn refuse_overwriting(&self, present: &Map<String, Value>, sort: Sort) -> Result<()> {
        let taken: Vec<String> = self
            .set
            .iter()
            // The cause of a change may always be overwritten.
            .filter(|(key, _)| sort == Sort::Labels || *key != super::rollout::CHANGE_CAUSE)
            .filter_map(|(key, value)| {
                let current = present.get(key)?.as_str()?;
                (current != value).then(|| format!("'{key}' already has a value ({current})"))
            })
            .collect();
        match (taken.as_slice(), sort) {
            ([], _) => Ok(()),
            ([one], Sort::Labels) => bail!("{one}, and --overwrite is false"),
            (several, Sort::Labels) => {
                let each: Vec<String> = several
                    .iter()
                    .map(|one| format!("{one}, and --overwrite is false"))
                    .collect();
                bail!("[{}]", each.join(", "))
            }
            (all, Sort::Annotations) => bail!(
                "--overwrite is false but found the following declared annotation(s): {}",
                all.join("; ")
            ),
        }
    }

    /// Returns the pairs after the change.
    fn applied(&self, present: &Map<String, Value>) -> Map<String, Value> {
        let mut pairs = present.clone();
        for (key, value) in &self.set {
            pairs.insert(key.clone(), value.clone().into());
        }
        pairs.retain(|key, _| !self.remove.contains(key));
        pairs
    }

    /// Returns the merge patch from `present`, without pairs that are the same already.
    fn patch(&self, present: &Map<String, Value>, sort: Sort) -> Value {
        let set = self
            .set
            .iter()
            .filter(|(key, value)| present.get(*key).and_then(Value::as_str) != Some(value.as_str()));
        let mut pairs: Map<String, Value> = set
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let gone = self.remove.iter().filter(|key| present.contains_key(*key));
        pairs.extend(gone.map(|key| (key.clone(), Value::Null)));
        match pairs.is_empty() {
            true => json!({}),
            false => json!({"metadata": {sort.field(): pairs}}),
        }
    }
}

/// Returns kubectl's word for the change of labels. If the labels get shorter, kubectl reports a
/// removal.
fn labelled(before: &Map<String, Value>, after: &Map<String, Value>, overwrite: bool) -> &'static str {
    let length = |pairs: &Map<String, Value>| Value::Object(pairs.clone()).to_string().len();
    match before == after {
        true => "not labeled",
        false if !overwrite && length(after) < length(before) => "unlabeled",
        false => "labeled",
    }
}

fn pairs_of(object: &Value, sort: Sort) -> Map<String, Value> {
    let pairs = object["metadata"][sort.field()].as_object();
    pairs.cloned().unwrap_or_default()
}

impl PairArgs {
    pub(crate) async fn run(self, connect: &ConnectArgs, sort: Sort) -> Result<()> {
        let (objects, pairs) = part(&self.words, sort)?;
        let change = Change::parse(pairs, sort)?;
        if self.list && self.output.is_some() {
            bail!("--list and --output may not be specified together");
        }
        self.select.check(objects)?;
        if change.is_empty() && !self.list {
            bail!("at least one {} update is required", sort.singular());
        }
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let selection = self.select.select(&connection, &resources, objects).await?;
        if self.resource_version.is_some() && !selection.single {
            bail!("--resource-version may only be used with a single resource");
        }
        let mut failures = Failures::default();
        for chosen in selection.chosen {
            let result = async {
                let chosen = chosen?;
                match self.list {
                    true => self.show(&chosen, &change, sort, selection.single),
                    false => self.change(&connection, &chosen, &change, sort).await,
                }
            };
            failures.note(result.await);
        }
        failures.finish()
    }

    /// Prints the pairs for `--list`, with the change.
    fn show(&self, chosen: &Chosen<'_>, change: &Change, sort: Sort, single: bool) -> Result<()> {
        let mut text = String::new();
        if !single {
            let resource = chosen.resource;
            text.push_str(&format!(
                "Listing {} for {}.{}/{}:\n",
                sort.field(),
                resource.kind,
                resource.group,
                chosen.name()
            ));
        }
        let present = pairs_of(&chosen.object, sort);
        if !self.overwrite {
            change.refuse_overwriting(&present, sort)?;
        }
        let indent = if single { "" } else { " " };
        for (key, value) in change.applied(&present) {
            text.push_str(&format!("{indent}{key}={}\n", value.as_str().unwrap_or_default()));
        }
        print(text.as_bytes())
    }

    async fn change(
        &self,
        connection: &Connection,
        chosen: &Chosen<'_>,
        change: &Change,
        sort: Sort,
    ) -> Result<()> {
        let present = pairs_of(&chosen.object, sort);
        if sort == Sort::Labels && self.dry_run.mode != DryRun::Client {
            for key in change.remove.iter().filter(|key| !present.contains_key(*key)) {
                print(format!("label {key:?} not found.\n").as_bytes())?;
            }
        }
        if !self.overwrite {
            change.refuse_overwriting(&present, sort)?;
        }
        let after = change.applied(&present);
        let mut object = chosen.object.clone();
        if self.dry_run.mode == DryRun::Client {
            object["metadata"][sort.field()] = after.clone().into();
        } else {
            let mut patch = change.patch(&present, sort);
            if let Some(version) = &self.resource_version {
                patch["metadata"]["resourceVersion"] = version.clone().into();
            }
            let path = format!(
                "{}?fieldManager=everynode-{}{}",
                chosen.path(),
                match sort {
                    Sort::Labels => "label",
                    Sort::Annotations => "annotate",
                },
                self.dry_run.mode.query()
            );
            let payload = Payload::patch("application/merge-patch+json", &patch);
            object = connection
                .request(Method::PATCH, &path, JSON, Some(payload))
                .await?;
        }
        if let Some(form) = self.output {
            return print(output::object(form, chosen.resource, &object)?.as_bytes());
        }
        let done = match sort {
            Sort::Labels => labelled(&present, &after, self.overwrite),
            Sort::Annotations => "annotated",
        };
        print(format!("{} {done}{}\n", chosen.display(), self.dry_run.mode.suffix()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn change(text: &str, sort: Sort) -> Result<Change, String> {
        Change::parse(&words(text), sort).map_err(|error| error.to_string())
    }

    fn pairs(text: &str) -> Map<String, Value> {
        let pair = |word: &str| {
            let (key, value) = word.split_once('=').unwrap();
            (key.to_owned(), value.into())
        };
        text.split_whitespace().map(pair).collect()
    }

    #[test]
    fn objects_come_first_and_pairs_after_them() {
        let all = words("nodes a b k=v l-");
        let (objects, pairs) = part(&all, Sort::Labels).unwrap();
        assert_eq!((objects.len(), pairs.len()), (3, 2));
        let error = part(&words("nodes k=v a"), Sort::Annotations).unwrap_err();
        assert_eq!(
            error.to_string(),
            "all resources must be specified before annotation changes: a"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_kubectls_words() {
        let refused = |text: &str, sort| change(text, sort).unwrap_err();
        assert_eq!(
            refused("a=1 a-", Sort::Labels),
            "can not both modify and remove a label in the same command"
        );
        assert_eq!(
            refused("a=1 a- b=1 b-", Sort::Annotations),
            "can not both modify and remove the following annotation(s) in the same command: a, b"
        );
        assert_eq!(refused("a=b=c", Sort::Labels), "invalid label spec: a=b=c");
        assert!(refused("a=-", Sort::Labels).starts_with("invalid label value: \"a=-\": a valid label must"));
        assert_eq!(
            change("a=b=c", Sort::Annotations).unwrap().set["a"],
            "b=c",
            "an annotation may hold anything"
        );
    }

    #[test]
    fn a_value_that_is_there_is_changed_only_when_that_is_asked_for() {
        let present = pairs("a=1 b=2");
        let refused = |text: &str, sort| {
            let change = change(text, sort).unwrap();
            change
                .refuse_overwriting(&present, sort)
                .map_err(|error| error.to_string())
        };
        assert_eq!(refused("a=1 c=3", Sort::Labels), Ok(()));
        assert_eq!(
            refused("a=2", Sort::Labels).unwrap_err(),
            "'a' already has a value (1), and --overwrite is false"
        );
        assert_eq!(
            refused("a=2 b=3", Sort::Annotations).unwrap_err(),
            "--overwrite is false but found the following declared annotation(s): 'a' already has a value (1); 'b' already has a value (2)"
        );
    }

    #[test]
    fn a_patch_holds_only_what_differs() {
        let change = change("a=1 b=3 c- d-", Sort::Labels).unwrap();
        let present = pairs("a=1 b=2 c=3");
        assert_eq!(
            change.patch(&present, Sort::Labels),
            json!({"metadata": {"labels": {"b": "3", "c": null}}})
        );
        assert_eq!(change.applied(&present), pairs("a=1 b=3"));
    }

    #[test]
    fn labels_that_get_fewer_are_called_unlabeled() {
        let said = |before: &str, after: &str| labelled(&pairs(before), &pairs(after), false);
        assert_eq!(said("a=1", "a=1"), "not labeled");
        assert_eq!(said("a=1", "a=1 b=2"), "labeled");
        assert_eq!(said("a=1 b=2", "a=1"), "unlabeled");
        assert_eq!(labelled(&pairs("a=1"), &pairs(""), true), "labeled");
    }
}
