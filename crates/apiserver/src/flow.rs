//! API priority and fairness: assigns each request to a priority level, by its user and its target.
//! Each level has its own seats, queue and memory bounds.
//!
//! [`LEVELS`] holds the levels, [`SCHEMAS`] the rules that assign requests to them. Levels and
//! rules have the names of Kubernetes where Kubernetes has the same one.
//!
//! A flow is one user within a level. For clients without a credential, it is one address. See
//! [`fair_queue`] for the bounds of a flow.

mod fair_queue;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use api::status::Status;

pub(crate) use self::fair_queue::{Bounds, Busy, FairQueue, Held, Thing, Ticket};
use self::fair_queue::{Counts, Share};
use crate::connections::Address;
use crate::limits::{BODY_BYTES_MAX, RETRY_AFTER_SECONDS};
use crate::routes::{Route, Target};
use crate::user::{GROUP_NODES, GROUP_SERVICE_ACCOUNTS, User};

/// A priority level.
struct Level {
    name: &'static str,
    bounds: Bounds,
}

/// Limit of a level on bytes of request bodies in memory: 20 bodies of the largest size.
const LEVEL_BODY_BYTES: usize = 20 * BODY_BYTES_MAX;
/// Limit of a flow on bytes of request bodies in memory. An object as a tree takes about ten times
/// the size of its text, so this bounds a user to about 120 MiB.
const FLOW_BODY_BYTES: usize = 4 * BODY_BYTES_MAX;

/// Limit of a level on bytes of request heads and selectors in memory.
const LEVEL_HEAD_BYTES: usize = 8 * FLOW_HEAD_BYTES;
/// Limit of a flow on bytes of request heads and selectors in memory: 16,384 watches with selectors
/// of 500 bytes, or 6 with selectors of the largest size.
const FLOW_HEAD_BYTES: usize = 8 << 20;

/// The levels. A seat costs at most about 0.5 MiB: two frames of the response and the state of the
/// compressor. A request without a seat and an idle stream cost about 16 KiB each.
///
/// One user's requests get 64 seats in a shared level. With commits of 5 ms, that is 12,800 writes
/// per second. A node gets fewer seats, because each node is a user. A flow may have many streams,
/// because most streams are watches of daemons, and all pods of a DaemonSet are one user.
static LEVELS: [Level; 7] = [
    // Heartbeats. They are small, and without them a node becomes not ready.
    Level {
        name: "node-high",
        bounds: Bounds {
            seats: 512,
            flow_seats: 8,
            present: 16_384,
            flow_present: 32,
            held: Held {
                streams: Share {
                    all: 32_768,
                    flow: 16,
                },
                body_bytes: Share {
                    all: LEVEL_BODY_BYTES,
                    flow: BODY_BYTES_MAX,
                },
                head_bytes: Share {
                    all: LEVEL_HEAD_BYTES,
                    flow: FLOW_HEAD_BYTES / 8,
                },
            },
        },
    },
    Level {
        name: "system",
        bounds: Bounds {
            seats: 512,
            flow_seats: 32,
            present: 8_192,
            flow_present: 256,
            held: Held {
                streams: Share {
                    all: 262_144,
                    flow: 1_024,
                },
                body_bytes: Share {
                    all: LEVEL_BODY_BYTES,
                    flow: 2 * BODY_BYTES_MAX,
                },
                head_bytes: Share {
                    all: LEVEL_HEAD_BYTES,
                    flow: FLOW_HEAD_BYTES / 4,
                },
            },
        },
    },
    Level {
        name: "administrators",
        bounds: Bounds {
            seats: 512,
            flow_seats: 512,
            present: 8_192,
            flow_present: 8_192,
            held: Held {
                streams: Share {
                    all: 65_536,
                    flow: 65_536,
                },
                body_bytes: Share {
                    all: LEVEL_BODY_BYTES,
                    flow: LEVEL_BODY_BYTES,
                },
                head_bytes: Share {
                    all: LEVEL_HEAD_BYTES,
                    flow: LEVEL_HEAD_BYTES,
                },
            },
        },
    },
    Level {
        name: "workload-high",
        bounds: SHARED,
    },
    Level {
        name: "workload-low",
        bounds: SHARED,
    },
    Level {
        name: "global-default",
        bounds: SHARED,
    },
    // Clients without a credential. Their right is to read the health, the version and the
    // certificate authority.
    Level {
        name: "catch-all",
        bounds: Bounds {
            seats: 32,
            flow_seats: 8,
            present: 1_024,
            flow_present: 64,
            held: Held {
                streams: Share { all: 64, flow: 4 },
                body_bytes: Share {
                    all: BODY_BYTES_MAX,
                    flow: BODY_BYTES_MAX / 4,
                },
                head_bytes: Share {
                    all: FLOW_HEAD_BYTES / 4,
                    flow: FLOW_HEAD_BYTES / 16,
                },
            },
        },
    },
];

/// Bounds of a level that unrelated users share.
const SHARED: Bounds = Bounds {
    seats: 256,
    flow_seats: 64,
    present: 2_048,
    flow_present: 512,
    held: Held {
        streams: Share {
            all: 65_536,
            flow: 16_384,
        },
        body_bytes: Share {
            all: LEVEL_BODY_BYTES,
            flow: FLOW_BODY_BYTES,
        },
        head_bytes: Share {
            all: LEVEL_HEAD_BYTES,
            flow: FLOW_HEAD_BYTES,
        },
    },
};

/// Input of the rules.
struct Asked<'a> {
    user: &'a User,
    is_heartbeat: bool,
}

/// A rule that assigns the matching requests to a level.
struct Schema {
    name: &'static str,
    level: &'static str,
    matches: fn(&Asked<'_>) -> bool,
}

/// The rules. The first match decides. The last rule matches every request.
static SCHEMAS: [Schema; 8] = [
    Schema {
        name: "administrators",
        level: "administrators",
        matches: |asked| asked.user.is_master(),
    },
    Schema {
        name: "system-node-high",
        level: "node-high",
        matches: |asked| asked.is_heartbeat && has_group(asked.user, GROUP_NODES),
    },
    Schema {
        name: "system-nodes",
        level: "system",
        matches: |asked| has_group(asked.user, GROUP_NODES),
    },
    // Machines that join the cluster.
    Schema {
        name: "system-bootstrappers",
        level: "system",
        matches: |asked| has_group(asked.user, "system:bootstrappers"),
    },
    Schema {
        name: "system-components",
        level: "workload-high",
        matches: |asked| {
            asked.user.name.starts_with("system:kube-")
                || has_group(asked.user, "system:serviceaccounts:kube-system")
        },
    },
    Schema {
        name: "service-accounts",
        level: "workload-low",
        matches: |asked| has_group(asked.user, GROUP_SERVICE_ACCOUNTS),
    },
    Schema {
        name: "catch-all",
        level: "catch-all",
        matches: |asked| asked.user.is_anonymous(),
    },
    Schema {
        name: "global-default",
        level: "global-default",
        matches: |_| true,
    },
];

fn has_group(user: &User, group: &str) -> bool {
    user.groups.iter().any(|of_user| of_user == group)
}

/// The queues of all levels.
pub(crate) struct FlowControl {
    queues: Vec<Arc<FairQueue>>,
    /// The index of each schema's level.
    levels: Vec<usize>,
}

impl Default for FlowControl {
    fn default() -> FlowControl {
        let level_of = |schema: &Schema| LEVELS.iter().position(|level| level.name == schema.level);
        FlowControl {
            queues: LEVELS.iter().map(|level| FairQueue::new(level.bounds)).collect(),
            levels: SCHEMAS
                .iter()
                .map(|schema| level_of(schema).unwrap_or_default())
                .collect(),
        }
    }
}

impl FlowControl {
    /// Admits a request from `address` to the queue of its level. Returns status 429 when its flow
    /// or its level has too many requests.
    pub(crate) fn enter(
        &self,
        user: &User,
        route: Option<&Route>,
        address: Address,
    ) -> Result<Ticket, Status> {
        let asked = Asked {
            user,
            is_heartbeat: route.is_some_and(is_heartbeat),
        };
        let schema = SCHEMAS.iter().position(|schema| (schema.matches)(&asked));
        let schema = schema.unwrap_or(SCHEMAS.len() - 1);
        let flow = match user.is_anonymous() {
            true => Cow::Owned(address.to_string()),
            false => Cow::Borrowed(user.name.as_str()),
        };
        let ticket = self.queues[self.levels[schema]].enter(&flow);
        ticket.map_err(|error| {
            tracing::debug!(flow_schema = SCHEMAS[schema].name, %flow, "a request was refused: there are too many");
            busy(error)
        })
    }

    /// Writes the metrics of all levels in Prometheus' text format.
    pub(crate) fn write_metrics(&self, out: &mut String) -> std::fmt::Result {
        type Value = fn(&Bounds, &Counts) -> u64;
        const ROWS: [(&str, &str, &str, Value); 9] = [
            (
                "apiserver_flowcontrol_nominal_limit_seats",
                "gauge",
                "Seats of a priority level.",
                |bounds, _| bounds.seats as u64,
            ),
            (
                "apiserver_flowcontrol_current_executing_seats",
                "gauge",
                "Seats that are taken.",
                |_, counts| counts.seated as u64,
            ),
            (
                "apiserver_flowcontrol_current_inqueue_requests",
                "gauge",
                "Requests that wait for a seat.",
                |_, counts| counts.waiting as u64,
            ),
            (
                "apiserver_flowcontrol_current_requests",
                "gauge",
                "Requests that are read, wait, are worked on or are being answered.",
                |_, counts| counts.present as u64,
            ),
            (
                "apiserver_flowcontrol_current_streams",
                "gauge",
                "Answers without an end: watches, logs that are followed.",
                |_, counts| counts.held.streams as u64,
            ),
            (
                "apiserver_flowcontrol_current_body_bytes",
                "gauge",
                "Bytes of request bodies in memory.",
                |_, counts| counts.held.body_bytes as u64,
            ),
            (
                "apiserver_flowcontrol_current_head_bytes",
                "gauge",
                "Bytes of large request heads and of selectors in memory.",
                |_, counts| counts.held.head_bytes as u64,
            ),
            (
                "apiserver_flowcontrol_dispatched_requests_total",
                "counter",
                "Requests that got a seat.",
                |_, counts| counts.dispatched,
            ),
            (
                "apiserver_flowcontrol_rejected_requests_total",
                "counter",
                "Requests that were refused.",
                |_, counts| counts.refused_full,
            ),
        ];
        for (name, kind, help, value) in ROWS {
            writeln!(out, "# HELP {name} {help}")?;
            writeln!(out, "# TYPE {name} {kind}")?;
            let is_rejection = name.ends_with("rejected_requests_total");
            for (level, queue) in LEVELS.iter().zip(&self.queues) {
                let counts = queue.counts();
                let level = level.name;
                let value = value(queue.bounds(), &counts);
                match is_rejection {
                    false => writeln!(out, "{name}{{priority_level=\"{level}\"}} {value}")?,
                    true => {
                        let late = counts.refused_late;
                        writeln!(
                            out,
                            "{name}{{priority_level=\"{level}\",reason=\"queue-full\"}} {value}"
                        )?;
                        writeln!(
                            out,
                            "{name}{{priority_level=\"{level}\",reason=\"time-out\"}} {late}"
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns whether the target is a `Lease` or the status of a node, which are a node's heartbeats.
fn is_heartbeat(route: &Route) -> bool {
    match route {
        Route::Objects(Target {
            kind, subresource, ..
        }) => match kind.kind {
            "Lease" => true,
            "Node" => subresource == "status",
            _ => false,
        },
        _ => false,
    }
}

/// Returns status 429 with the time after which the client retries.
pub(crate) fn busy(_busy: Busy) -> Status {
    Status::too_many_requests(
        "the server has received too many requests, please try again later",
        RETRY_AFTER_SECONDS,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    /// Returns the names of a request's schema and level.
    fn sorted(user: &User, path: &str) -> (&'static str, &'static str) {
        let asked = Asked {
            user,
            is_heartbeat: is_heartbeat(&routes::route(path).unwrap()),
        };
        let schema = SCHEMAS.iter().find(|schema| (schema.matches)(&asked)).unwrap();
        (schema.name, schema.level)
    }

    #[test]
    fn each_schema_leads_to_a_level_that_exists() {
        for schema in &SCHEMAS {
            let levels = LEVELS.iter().filter(|level| level.name == schema.level);
            assert_eq!(levels.count(), 1, "{}", schema.name);
        }
    }

    #[test]
    fn requests_are_sorted_by_user_and_by_what_they_are_about() {
        let pods = "/api/v1/pods";
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
        let level = |user: &User, path: &str| sorted(user, path).1;
        assert_eq!(level(&User::admin(), lease), "administrators");
        assert_eq!(level(&User::node("n"), lease), "node-high");
        assert_eq!(level(&User::node("n"), "/api/v1/nodes/n/status"), "node-high");
        assert_eq!(level(&User::node("n"), pods), "system");
        assert_eq!(
            level(&User::component("system:kube-scheduler"), pods),
            "workload-high"
        );
        assert_eq!(
            level(&User::service_account("kube-system", "dns", ""), pods),
            "workload-high"
        );
        assert_eq!(
            level(&User::service_account("default", "x", ""), lease),
            "workload-low"
        );
        assert_eq!(level(&User::new("jane", &["dev"]), pods), "global-default");
        assert_eq!(level(&User::anonymous(), "/healthz"), "catch-all");
    }
}
