//! Texts of a verdict: the part that is equal for nodes in the same state, and the part of each
//! node.

use jiff::Timestamp;
use plan::fleet::{Decision, Verdict, WaitsFor};

use crate::client::fleet::Sight;

/// Returns the verdict's name in JSON.
pub(super) fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::NotHere(_) => "NotHere",
        Verdict::Stays(_) => "Stays",
        Verdict::Leaving(_) => "Leaving",
        Verdict::NodeGone => "NodeGone",
        Verdict::NodeDown(_) => "NodeDown",
        Verdict::Creating => "Creating",
        Verdict::Missing => "Missing",
        Verdict::Refused(..) => "Refused",
        Verdict::Ending => "Ending",
        Verdict::Adopting => "Adopting",
        Verdict::BackingOff(_) => "BackingOff",
        Verdict::Ended(_) => "Ended",
        Verdict::Unscheduled(_) => "Unscheduled",
        Verdict::NotReady => "NotReady",
        Verdict::AvailableAt(_) => "AvailableLater",
        Verdict::Outdated => "Outdated",
        Verdict::Surging => "Surging",
        Verdict::UpToDate => "UpToDate",
    }
}

/// Returns the text of a decision without the parts that differ by node, such as names and times.
pub(super) fn text(decision: &Decision, sight: &Sight) -> String {
    let state = || {
        let pod = decision.pod.as_ref()?;
        sight.unready.get(&pod.meta.name)
    };
    let in_short = || state().map(|state| state.in_short());
    match &decision.verdict {
        Verdict::NotHere(why) if let Some(trouble) = sight.trouble(&decision.node, why) => {
            format!("the node {trouble}; it gets a pod when it is back")
        }
        Verdict::Stays(why) if let Some(trouble) = sight.trouble(&decision.node, why) => {
            format!("the node {trouble}; its pod stays as it is until then")
        }
        Verdict::UpToDate => "up to date and available".to_owned(),
        Verdict::NotReady | Verdict::Surging => match in_short() {
            Some(why) if state().is_some_and(|state| state.broken().is_some()) => why,
            Some(why) => format!("{}: {why}", decision.verdict),
            None => decision.verdict.to_string(),
        },
        Verdict::BackingOff(_) | Verdict::Ended(_) => {
            let failed = match &decision.verdict {
                Verdict::Ended(_) => decision.verdict.to_string(),
                _ => "its pods keep failing".to_owned(),
            };
            match state().and_then(|state| state.failure.clone()).or_else(in_short) {
                Some(why) => format!("{failed}: {why}"),
                None => failed,
            }
        }
        Verdict::AvailableAt(_) => "ready, but not yet for minReadySeconds".to_owned(),
        verdict => verdict.to_string(),
    }
}

/// Returns what must happen before the verdict changes; `None` if nothing must.
pub(super) fn waits_for(decision: &Decision, sight: &Sight) -> Option<String> {
    if is_down(decision, sight) {
        return Some(WaitsFor::NodeToRecover.to_string());
    }
    match &decision.waits_for {
        WaitsFor::Nothing => None,
        WaitsFor::Time(_) => Some("the time to pass".to_owned()),
        other => Some(other.to_string()),
    }
}

/// Returns since when the verdict holds. The time of a terminating pod may be in the future; then
/// the result is `None`.
pub(super) fn since(decision: &Decision, now: Timestamp) -> Option<Timestamp> {
    decision.since.filter(|since| *since <= now)
}

/// Returns the time that the node waits for.
pub(super) fn until(decision: &Decision, now: Timestamp) -> Option<Timestamp> {
    match decision.waits_for {
        WaitsFor::Time(moment) => Some(moment),
        _ => decision.since.filter(|since| *since > now),
    }
}

/// Rank of a state in the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Sort {
    /// A person must act.
    Broken,
    /// It changes by itself, or when the node is back.
    Awaited,
    /// The pod runs as it should.
    Served,
    /// No pod should run.
    Absent,
}

/// Returns whether the node is left out only because of its own trouble.
pub(super) fn is_down(decision: &Decision, sight: &Sight) -> bool {
    match &decision.verdict {
        Verdict::NodeDown(_) => true,
        Verdict::NotHere(why) | Verdict::Stays(why) => sight.trouble(&decision.node, why).is_some(),
        _ => false,
    }
}

/// Returns the rank of a verdict.
pub(super) fn sort(decision: &Decision, sight: &Sight) -> Sort {
    let is_broken = || {
        let pod = decision.pod.as_ref();
        let state = pod.and_then(|pod| sight.unready.get(&pod.meta.name));
        state.is_some_and(|state| state.broken().is_some())
    };
    match &decision.verdict {
        _ if is_down(decision, sight) => Sort::Awaited,
        Verdict::UpToDate => Sort::Served,
        Verdict::Refused(..) | Verdict::BackingOff(_) | Verdict::Ended(_) => Sort::Broken,
        Verdict::Unscheduled(why) if !why.is_empty() => Sort::Broken,
        Verdict::NotReady | Verdict::Surging if is_broken() => Sort::Broken,
        Verdict::NotHere(_) | Verdict::Stays(_) => Sort::Absent,
        _ => Sort::Awaited,
    }
}

/// Returns `2026-01-02T03:04:05Z (in 40s)`.
pub(super) fn moment(moment: Timestamp, now: Timestamp) -> String {
    let ahead = moment.as_second() - now.as_second();
    let distance = match ahead {
        0.. => format!("in {}", api::time::human_duration(ahead)),
        _ => format!("{} ago", api::time::human_duration(-ahead)),
    };
    format!("{} ({distance})", api::time::rfc3339(moment))
}

/// Returns how long ago a time was, such as `5m`.
pub(super) fn ago(moment: Timestamp, now: Timestamp) -> String {
    api::time::human_duration(now.as_second() - moment.as_second())
}
