//! `everynode taint`: adds and removes taints of nodes.
//!
//! The arguments, their order, the messages and the exit codes are kubectl's, because scripts parse
//! them.

use std::fmt;

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload};
use crate::client::dry_run::{DryRun, DryRunArgs};
use crate::client::error::{CONFLICT_TRIES, Failures, is_conflict};
use crate::client::output::{self, Output};
use crate::client::resources::{Resource, Resources, escape};

/// Add taints to nodes, or remove them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode taint nodes node-7 dedicated=storage:NoSchedule    pods that do not tolerate it keep away
  everynode taint nodes node-7 broken:NoExecute                and those that are there leave
  everynode taint nodes node-7 dedicated:NoSchedule-           take one away
  everynode taint nodes --all dedicated-                       take all with that key away")]
pub(crate) struct Taint {
    /// Nodes, then `KEY=VALUE:EFFECT`, `KEY:EFFECT`, `KEY:EFFECT-` or `KEY-`; the effects are
    /// NoSchedule, PreferNoSchedule and NoExecute
    #[arg(value_name = "nodes NAME | KEY=VALUE:EFFECT | KEY-")]
    words: Vec<String>,

    /// Select nodes by labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// Select all nodes
    #[arg(long)]
    all: bool,

    /// Change the value of existing taints as well
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    dry_run: DryRunArgs,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

/// A taint on the command line. To remove a taint, the effect may be omitted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spec {
    key: String,
    value: String,
    effect: String,
}

/// Formats `key=value:effect`, without empty parts.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        if !self.effect.is_empty() {
            write!(f, ":{}", self.effect)?;
        }
        Ok(())
    }
}

impl Spec {
    fn parse(text: &str) -> Result<Spec> {
        let (pair, effect) = match text.split(':').collect::<Vec<_>>().as_slice() {
            [key] => (*key, ""),
            [pair, effect] => (*pair, *effect),
            _ => bail!("invalid taint spec: {text}"),
        };
        if text.contains(':') && !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            bail!("invalid taint effect: {effect}, unsupported taint effect");
        }
        let mut messages = Vec::new();
        // Without an effect, the whole word is the key.
        let (key, value) = match pair.split('=').collect::<Vec<_>>().as_slice() {
            _ if effect.is_empty() => (pair, ""),
            [key] => (*key, ""),
            [key, value] => (*key, *value),
            _ => bail!("invalid taint spec: {text}"),
        };
        api::validate::name::label_value(value, &mut messages);
        if messages.is_empty() {
            api::validate::name::qualified(key, &mut messages);
        }
        if !messages.is_empty() {
            bail!("invalid taint spec: {text}, {}", messages.join("; "));
        }
        Ok(Spec {
            key: key.to_owned(),
            value: value.to_owned(),
            effect: effect.to_owned(),
        })
    }

    /// Returns whether this removal matches a node's taint.
    fn covers(&self, taint: &Value) -> bool {
        taint["key"] == *self.key && (self.effect.is_empty() || taint["effect"] == *self.effect)
    }

    fn value(&self) -> Value {
        let mut taint = json!({"key": self.key, "effect": self.effect});
        if !self.value.is_empty() {
            taint["value"] = self.value.clone().into();
        }
        taint
    }
}

/// Taints to add and to remove.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    add: Vec<Spec>,
    remove: Vec<Spec>,
}

/// Splits the words into nodes and taints; the taints come last.
fn part(words: &[String]) -> Result<(&[String], &[String])> {
    let is_taint = |word: &String| word.contains('=') || word.contains(':') || word.ends_with('-');
    let first = words.iter().position(is_taint).unwrap_or(words.len());
    let (nodes, taints) = words.split_at(first);
    if let Some(stray) = taints.iter().find(|word| !is_taint(word)) {
        bail!("all resources must be specified before taint changes: {stray}");
    }
    if nodes.is_empty() {
        bail!("one or more resources must be specified as <resource> <name>");
    }
    if taints.is_empty() {
        bail!("at least one taint update is required");
    }
    Ok((nodes, taints))
}

impl Change {
    fn parse(words: &[String]) -> Result<Change> {
        let mut change = Change::default();
        for word in words {
            if let Some(text) = word.strip_suffix('-') {
                let spec = Spec::parse(text)?;
                // A removal ignores the value.
                change.remove.push(Spec {
                    value: String::new(),
                    ..spec
                });
                continue;
            }
            let spec = Spec::parse(word)?;
            if spec.effect.is_empty() {
                bail!("invalid taint spec: {word}");
            }
            let same = |other: &Spec| other.key == spec.key && other.effect == spec.effect;
            if change.add.iter().any(same) {
                bail!("duplicated taints with the same key and effect: {spec}");
            }
            change.add.push(spec);
        }
        Ok(change)
    }

    /// Fails if a taint is both added and removed.
    fn refuse_both(&self) -> Result<()> {
        let both: Vec<String> = self
            .add
            .iter()
            .flat_map(|add| self.remove.iter().filter(|remove| remove.covers(&add.value())))
            .map(|remove| format!("{}={}", remove.key, remove.effect))
            .collect();
        if !both.is_empty() {
            bail!(
                "can not both modify and remove the following taint(s) in the same command: {}",
                both.join(", ")
            );
        }
        Ok(())
    }

    /// Returns the node's taints after the change, and kubectl's word for it.
    fn apply(&self, node: &str, present: &[Value], overwrite: bool) -> Result<(Vec<Value>, &'static str)> {
        let same = |spec: &Spec, taint: &Value| taint["key"] == *spec.key && taint["effect"] == *spec.effect;
        let taken: Vec<&str> = self
            .add
            .iter()
            .filter(|add| present.iter().any(|taint| same(add, taint)))
            .map(|add| add.key.as_str())
            .collect();
        if !overwrite && !taken.is_empty() {
            bail!(
                "node {node} already has {} taint(s) with same effect(s) and --overwrite is false",
                taken.join(",")
            );
        }
        let mut taints: Vec<Value> = self.add.iter().map(Spec::value).collect();
        let kept = present
            .iter()
            .filter(|taint| !self.add.iter().any(|add| same(add, taint)));
        taints.extend(kept.cloned());
        let mut missing = Failures::default();
        let mut removed = false;
        for remove in &self.remove {
            let before = taints.len();
            taints.retain(|taint| !remove.covers(taint));
            removed |= taints.len() < before;
            if taints.len() == before {
                missing.note::<()>(Err(anyhow::anyhow!("taint \"{remove}\" not found")));
            }
        }
        missing.finish()?;
        let done = match (!self.add.is_empty(), removed) {
            _ if overwrite => "modified",
            (true, true) => "modified",
            (true, false) => "tainted",
            (false, _) => "untainted",
        };
        Ok((taints, done))
    }
}

impl Taint {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let (words, taints) = part(&self.words)?;
        let change = match Change::parse(taints) {
            Ok(change) => change,
            Err(error) => bail!("{error}\nSee 'everynode taint -h' for help and examples"),
        };
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let (kind, names) = words
            .split_first()
            .map_or(("", &[][..]), |(kind, names)| (kind, names));
        let resource = resources.named(kind)?;
        if resource.kind != "Node" {
            bail!("invalid resource type {kind}, only node types are supported");
        }
        change.refuse_both()?;
        if self.all && self.selector.is_some() {
            bail!("setting 'all' parameter with a non empty selector is prohibited");
        }
        if !self.all && self.selector.is_none() && names.is_empty() {
            bail!("at least one resource name must be specified since 'all' parameter is not set");
        }
        let mut failures = Failures::default();
        for node in self.nodes(&connection, resource, names).await? {
            let result = async { self.taint(&connection, resource, node?, &change).await };
            failures.note(result.await);
        }
        failures.finish()
    }

    async fn nodes(
        &self,
        connection: &Connection,
        resource: &Resource,
        names: &[String],
    ) -> Result<Vec<Result<Value>>> {
        if self.all || self.selector.is_some() {
            let query = match &self.selector {
                Some(selector) => format!("labelSelector={}", escape(selector)),
                None => String::new(),
            };
            return connection
                .list(&resource.collection(None), &query, |node| Ok(Ok(node.clone())))
                .await;
        }
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(connection.get(&resource.object("", name)).await);
        }
        Ok(nodes)
    }

    async fn taint(
        &self,
        connection: &Connection,
        resource: &Resource,
        node: Value,
        change: &Change,
    ) -> Result<()> {
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (node, done) = self
            .write(connection, &resource.object("", &name), node, change)
            .await?;
        match self.output {
            Some(form) => print(output::object(form, resource, &node)?.as_bytes()),
            None => {
                let suffix = self.dry_run.mode.suffix();
                print(format!("{}/{name} {done}{suffix}\n", resource.display()).as_bytes())
            }
        }
    }

    /// Writes the taints of `node`. The write replaces the whole list, so it fails if another
    /// client wrote meanwhile.
    async fn write(
        &self,
        connection: &Connection,
        path: &str,
        mut node: Value,
        change: &Change,
    ) -> Result<(Value, &'static str)> {
        let mut tries = 0;
        loop {
            tries += 1;
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            let present = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            let (taints, done) = change.apply(name, &present, self.overwrite)?;
            if self.dry_run.mode == DryRun::Client {
                node["spec"]["taints"] = taints.into();
                return Ok((node, done));
            }
            let patch = json!({
                "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
                "spec": {"taints": if taints.is_empty() { Value::Null } else { taints.into() }},
            });
            let target = format!("{path}?fieldManager=everynode-taint{}", self.dry_run.mode.query());
            let payload = Payload::patch("application/merge-patch+json", &patch);
            match connection
                .request(Method::PATCH, &target, JSON, Some(payload))
                .await
            {
                Err(error) if is_conflict(&error) && tries < CONFLICT_TRIES => {
                    node = connection.get(path).await?;
                }
                answer => return Ok((answer?, done)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> Result<Change, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Change::parse(&words).map_err(|error| error.to_string())
    }

    fn apply(text: &str, present: &[Value], overwrite: bool) -> Result<(Vec<Value>, &'static str), String> {
        let change = change(text)?;
        change
            .apply("n", present, overwrite)
            .map_err(|error| crate::client::error::describe(&error))
    }

    #[test]
    fn a_taint_is_read_in_each_of_its_forms() {
        let spec = |text: &str| Spec::parse(text).map(|spec| spec.to_string()).ok();
        for text in ["k=v:NoSchedule", "k:NoExecute", "example.com/k=:NoSchedule", "k"] {
            assert_eq!(spec(text).unwrap(), text.replace("=:", ":"), "{text}");
        }
        for text in [
            "k=v",
            "k=v:Never",
            "k:a:b",
            "k=v=w:NoSchedule",
            "k k:NoSchedule",
            ":NoSchedule",
            "",
        ] {
            assert_eq!(spec(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_kubectls_words() {
        let both = |text: &str| change(text)?.refuse_both().map_err(|error| error.to_string());
        assert_eq!(
            change("k=v:Nope").unwrap_err(),
            "invalid taint effect: Nope, unsupported taint effect"
        );
        assert_eq!(change("a").unwrap_err(), "invalid taint spec: a");
        assert_eq!(
            both("c:NoSchedule c-").unwrap_err(),
            "can not both modify and remove the following taint(s) in the same command: c="
        );
        assert_eq!(both("c:NoSchedule c:NoExecute-"), Ok(()));
    }

    #[test]
    fn a_taint_that_is_there_is_changed_only_when_that_is_asked_for() {
        let present = [json!({"key": "k", "value": "v", "effect": "NoSchedule"})];
        assert_eq!(
            apply("k=w:NoSchedule", &present, false).unwrap_err(),
            "error: node n already has k taint(s) with same effect(s) and --overwrite is false"
        );
        let (taints, done) = apply("k=w:NoSchedule", &present, true).unwrap();
        assert_eq!(
            (taints[0]["value"].as_str(), taints.len(), done),
            (Some("w"), 1, "modified")
        );
        let (taints, done) = apply("k=w:NoExecute", &present, false).unwrap();
        assert_eq!((taints.len(), done), (2, "tainted"));
    }

    #[test]
    fn what_is_not_there_cannot_be_taken_away() {
        let present = [
            json!({"key": "k", "effect": "NoSchedule"}),
            json!({"key": "k", "effect": "NoExecute"}),
        ];
        let (taints, done) = apply("k:NoExecute-", &present, false).unwrap();
        assert_eq!((taints.len(), done), (1, "untainted"));
        assert_eq!(apply("k-", &present, false).unwrap().0.len(), 0);
        assert_eq!(apply("l:NoSchedule k-", &present, false).unwrap().1, "modified");
        assert_eq!(
            apply("x-", &present, false).unwrap_err(),
            "error: taint \"x\" not found"
        );
        assert_eq!(
            apply("x- y:NoExecute-", &present, false).unwrap_err(),
            "taint \"x\" not found\ntaint \"y:NoExecute\" not found"
        );
    }
}
