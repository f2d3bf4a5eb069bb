//! `everynode events`: prints events, oldest first.

use std::convert::Infallible;

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::get::print;
use crate::client::connection::{ConnectArgs, Connection, JSON, WatchEnd};
use crate::client::event;
use crate::client::output::{self, Output};
use crate::client::resources::{Resource, Resources, escape};
use crate::client::table::Columns;

/// List events, oldest first
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode events -n kube-system --for ds/fluentd
  everynode events -A --types=Warning --watch")]
pub(crate) struct Events {
    /// Select events about this object
    #[arg(long = "for", value_name = "TYPE/NAME")]
    about: Option<String>,

    /// Select events of these types: Normal, Warning
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    types: Vec<String>,

    /// Include all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Keep printing new events
    #[arg(short, long)]
    watch: bool,

    /// Print no header
    #[arg(long)]
    no_headers: bool,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

/// Spaces between two columns, as in kubectl.
const GAP: usize = 3;

impl Events {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let known = |kind: &String| {
            ["Normal", "Warning"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(kind))
        };
        if !self.types.iter().all(known) {
            bail!("valid --types are Normal or Warning");
        }
        let connection = connect.connect().await?;
        let resources = Resources::discover(&connection).await?;
        let resource = resources.of_kind("v1", "Event")?;
        let namespace = (!self.all_namespaces).then_some(connection.namespace.as_str());
        let path = resource.collection(namespace);
        let query = match &self.about {
            Some(about) => format!("fieldSelector={}", escape(&selector(about, &resources)?)),
            None => String::new(),
        };
        if self.watch {
            return self.follow(&connection, resource, &path, &query).await;
        }
        let mut events = connection.list(&path, &query, |event| Ok(event.clone())).await?;
        events.retain(|event| self.is_wanted(event));
        events.sort_by_key(|event| event::last_seen(event).to_owned());
        if events.is_empty() {
            match self.all_namespaces {
                true => eprintln!("No events found."),
                false => eprintln!("No events found in {} namespace.", connection.namespace),
            }
            return Ok(());
        }
        if let Some(form) = self.output {
            return print(objects(form, resource, events)?.as_bytes());
        }
        let mut rows = self.header();
        let now = Timestamp::now();
        rows.extend(events.iter().map(|event| self.row(event, now)));
        print(Columns::new(GAP).lines(&rows).as_bytes())
    }

    /// Prints the existing events, then new ones.
    async fn follow(
        &self,
        connection: &Connection,
        resource: &Resource,
        path: &str,
        query: &str,
    ) -> Result<()> {
        let (mut columns, mut header) = (Columns::new(GAP), self.header());
        let path = format!("{path}?watch=true&{query}");
        let never = connection.watch(&path, JSON, |kind, event| {
            // The server removes old events; that is not printed.
            if kind == "DELETED" || !self.is_wanted(event) {
                return Ok(None::<Infallible>);
            }
            match self.output {
                Some(form) => print(output::object(form, resource, event)?.as_bytes())?,
                None => {
                    let mut rows = std::mem::take(&mut header);
                    rows.push(self.row(event, Timestamp::now()));
                    print(columns.lines(&rows).as_bytes())?;
                }
            }
            Ok(None)
        });
        match never.await? {
            WatchEnd::Ended(None) => Ok(()),
            WatchEnd::Ended(Some(why)) => bail!("the watch ended: {why}"),
            WatchEnd::Answer(never) => match never {},
        }
    }

    fn is_wanted(&self, event: &Value) -> bool {
        let kind = event["type"].as_str().unwrap_or_default();
        self.types.is_empty() || self.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind))
    }

    fn header(&self) -> Vec<Vec<String>> {
        let mut names = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
        if self.all_namespaces {
            names.insert(0, "NAMESPACE");
        }
        let names = names.into_iter().map(str::to_owned).collect();
        if self.no_headers { Vec::new() } else { vec![names] }
    }

    fn row(&self, event: &Value, now: Timestamp) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = &event["involvedObject"];
        let mut row = vec![
            interval(event, now),
            text(&event["type"]),
            text(&event["reason"]),
            format!("{}/{}", text(&about["kind"]), text(&about["name"])),
            text(&event["message"]).trim().to_owned(),
        ];
        if self.all_namespaces {
            row.insert(0, text(&event["metadata"]["namespace"]));
        }
        row
    }
}

/// Returns `5m`, or `5m (x3 over 10m)`.
fn interval(event: &Value, now: Timestamp) -> String {
    let age = |time: &str| api::time::age(Some(time), now);
    match event::count(event) {
        1 => age(event::first_seen(event)),
        count => format!(
            "{} (x{count} over {})",
            age(event::last_seen(event)),
            age(event::first_seen(event))
        ),
    }
}

/// Returns the field selector of the events about `TYPE/NAME`.
fn selector(about: &str, resources: &Resources) -> Result<String> {
    let Some((kind, name)) = about.split_once('/') else {
        bail!("--for must be in resource/name form");
    };
    if name.contains('/') {
        bail!("arguments in resource/name form may not have more than one slash");
    }
    let resource = resources.named(kind)?;
    Ok(format!(
        "involvedObject.kind={},involvedObject.apiVersion={},involvedObject.name={name}",
        resource.kind,
        resource.api_version()
    ))
}

fn objects(form: Output, resource: &Resource, mut events: Vec<Value>) -> Result<String> {
    if form == Output::Name {
        let lines: Result<Vec<String>> = events
            .iter()
            .map(|event| output::object(form, resource, event))
            .collect();
        return Ok(lines?.concat());
    }
    for event in &mut events {
        event["apiVersion"] = resource.api_version().into();
        event["kind"] = resource.kind.clone().into();
    }
    output::object(form, resource, &output::list(events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_that_came_again_says_how_often_and_since_when() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let once = json!({"firstTimestamp": "2026-01-01T00:55:00Z", "lastTimestamp": "2026-01-01T00:55:00Z", "count": 1});
        assert_eq!(interval(&once, now), "5m");
        let again = json!({"firstTimestamp": "2026-01-01T00:30:00Z", "lastTimestamp": "2026-01-01T00:59:30Z", "count": 4});
        assert_eq!(interval(&again, now), "30s (x4 over 30m)");
        let series = json!({"eventTime": "2026-01-01T00:30:00.000000Z",
            "series": {"count": 7, "lastObservedTime": "2026-01-01T00:59:00.000000Z"}});
        assert_eq!(interval(&series, now), "60s (x7 over 30m)");
        assert_eq!(interval(&json!({}), now), "<unknown>");
    }
}
