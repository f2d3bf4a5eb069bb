//! Deletes old Events.
//!
//! In Kubernetes, the store deletes an Event an hour after its last write. This controller is
//! stateless instead: it regularly reads all Events in pages, and deletes the old ones. An Event
//! that was updated meanwhile has another resourceVersion and stays.

use std::time::Duration;

use jiff::Timestamp;
use reflector::request::{DeleteOptions, Failure};
use serde::Deserialize;

use crate::Context;
use crate::driver::TaskError;
use crate::resource::Resource;

/// How often Events are read. An Event may live longer than its TTL by up to this time.
const PERIOD: Duration = Duration::from_secs(300);

/// Events in a page.
const PAGE: usize = 500;

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    items: Vec<EventView>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventView {
    metadata: EventMeta,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventMeta {
    name: String,
    #[serde(default)]
    namespace: String,
    resource_version: String,
    creation_timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<Timestamp>,
}

impl EventView {
    fn last_seen(&self) -> Option<Timestamp> {
        let observed = self.series.as_ref().and_then(|s| s.last_observed_time);
        [
            self.metadata.creation_timestamp,
            self.last_timestamp,
            self.event_time,
            observed,
        ]
        .into_iter()
        .flatten()
        .max()
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(context: Context, time_to_live: Duration) -> Result<(), TaskError> {
    loop {
        sweep(&context, time_to_live).await?;
        tokio::time::sleep(PERIOD.min(time_to_live)).await;
    }
}

async fn sweep(context: &Context, time_to_live: Duration) -> Result<(), Failure> {
    let oldest = context
        .clock
        .now()
        .checked_sub(time_to_live)
        .unwrap_or(Timestamp::MIN);
    let mut token = String::new();
    loop {
        let path = format!("{}?limit={PAGE}&continue={token}", Resource::events().path());
        let page: Page = match context.api.get(&path).await {
            Ok(page) => page,
            // The continue token has expired; the next sweep starts from the beginning.
            Err(failure) if failure.code() == 410 => return Ok(()),
            Err(failure) => return Err(failure),
        };
        for event in page
            .items
            .iter()
            .filter(|e| e.last_seen().is_some_and(|seen| seen < oldest))
        {
            let options = DeleteOptions {
                resource_version: Some(&event.metadata.resource_version),
                ..DeleteOptions::default()
            };
            let path = Resource::events().object(&event.metadata.namespace, &event.metadata.name);
            match context.api.delete(&path, options).await {
                Err(failure) if !failure.is_not_found() && !failure.is_conflict() => return Err(failure),
                _ => {}
            }
        }
        token = page.metadata.next;
        if token.is_empty() {
            return Ok(());
        }
    }
}
