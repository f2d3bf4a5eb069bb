//! Clients inside the cluster: a pod on every node that asks Services over and over, and names, and counts what it was answered.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use testkit::{Fleet, Node, Pod, programs, wait_for};

use crate::{CURL, fleet};

/// Asks each of `$TARGETS` (`NAME=URL`), each time over a connection of its own, with `$PAUSE` seconds between the questions, and looks up `$NAMES`, until
/// there is `/tmp/stop`. What came is a line in `/tmp/NAME` or `/tmp/names`.
///
/// Every address of an answer is asked for its page. One that does not serve is `gone` when the next answer leaves it out, and `wrong` otherwise.
const ASK: &str = r#"
ask() {
  until [ -e /tmp/stop ]; do
    curl -s -o /dev/null -H 'Connection: close' --max-time 5 -w '%{exitcode} %{http_code}\n' "$2"
    [ "$PAUSE" = 0 ] || sleep $PAUSE
  done >> /tmp/$1
}
addresses() { nslookup -type=a $NAMES. | sed -n '/^Name:/,$s/^Address: *//p'; }
names() {
  until [ -e /tmp/stop ]; do
    found=$(addresses)
    [ -n "$found" ] && echo named || echo empty
    for address in $found; do
      curl -s -f -o /dev/null --max-time 5 http://$address:8080/ && continue
      addresses | grep -qx $address && echo wrong || echo gone
    done
  done >> /tmp/names
}
for target in $TARGETS; do ask ${target%%=*} ${target#*=} & done
[ -z "$NAMES" ] || names &
wait; exec sleep 1000
"#;
/// Counts the lines of [`ASK`]: questions, those of them that failed, and those whose predecessor had failed too; then how they failed, in curl's numbers.
const COUNT: &str = r#"{ n++; if ($1 == 0 && $2 == 200) last = 0; else { failed++; twice += last; last = 1; how = how " " $1 } }
END { print n+0, failed+0, twice+0 how }"#;

/// Clients in pods, one on every node.
pub(crate) struct Inside {
    pods: BTreeMap<String, Pod>,
}

/// What a client in a pod has seen so far of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests.
    pub(crate) asked: u64,
    /// Those that were not answered with 200, however often the kernel tried to connect within five seconds.
    pub(crate) failed: u64,
    /// Those of them that followed another.
    pub(crate) twice: u64,
    /// What curl ended with for each that failed: 7 cannot connect, 28 no answer in time, 52 and 56 the connection ended before the answer.
    pub(crate) how: Vec<u64>,
}

/// What a client in a pod has seen so far of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Answers with addresses.
    pub(crate) named: usize,
    /// Answers without any, and none at all.
    pub(crate) empty: usize,
    /// Addresses that did not serve, and were left out of the next answer.
    pub(crate) gone: usize,
    /// Addresses that did not serve, and were in the next answer too.
    pub(crate) wrong: usize,
}

/// A fleet whose nodes all have the images of pages and of their clients.
pub(crate) fn fleet_with_clients(nodes: usize) -> Result<Option<Fleet>> {
    let Some(mut fleet) = fleet(nodes, &[])? else {
        return Ok(None);
    };
    let curl = Path::new("/usr/bin/curl");
    let image = programs(fleet.topology().folder(), CURL, &[curl], &["sh"])?;
    fleet.import(&image)?;
    Ok(Some(fleet))
}

impl Inside {
    /// Starts a client on every node. `targets` are pairs of a short name and a URL; `names` is a name that leads to pages, or empty; `pause` is in
    /// seconds. It returns when every client has asked.
    pub(crate) fn start(
        fleet: &mut Fleet,
        targets: &[(&str, &str)],
        names: &str,
        pause: &str,
    ) -> Result<Self> {
        let pairs: Vec<String> = targets
            .iter()
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let labels = json!({"app": "client"});
        fleet.apply(&json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "client"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": CURL, "command": ["sh", "-c", ASK],
                    "env": [
                        {"name": "TARGETS", "value": pairs.join(" ")},
                        {"name": "NAMES", "value": names},
                        {"name": "PAUSE", "value": pause},
                    ],
                }],
            }}},
        }));
        let inside = Inside {
            pods: fleet.running("client", fleet.len())?,
        };
        for node in inside.pods.keys() {
            for (target, _) in targets {
                inside.more(fleet, node, target)?;
            }
        }
        Ok(inside)
    }

    /// The clients' pods, by node.
    pub(crate) fn pods(&self) -> &BTreeMap<String, Pod> {
        &self.pods
    }

    /// The nodes that have a client.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// Ends the asking on one node, and waits until the last answer has been written.
    pub(crate) fn stop(&self, fleet: &Fleet, node: &str) -> Result<()> {
        wait_for("the client to end", || {
            let said = self.exec(fleet, node, "touch /tmp/stop; pidof curl nslookup || echo ended");
            Ok(said
                .filter(|said| said.trim() == "ended")
                .map(|_| ())
                .ok_or_else(|| "it asks".to_owned()))
        })
    }

    /// What the client on a node has seen of a target.
    pub(crate) fn counts(&self, fleet: &Fleet, node: &str, target: &str) -> Result<Counts> {
        wait_for("the client's counts", || {
            let said = self.exec(fleet, node, &format!("awk '{COUNT}' /tmp/{target}"));
            Ok(Counts::read(&said.unwrap_or_default()))
        })
    }

    /// The same, read on the machine itself, which may be cut off.
    pub(crate) fn counts_at(machine: &Node, target: &str) -> Result<Counts> {
        let file = format!("root/tmp/{target}");
        let script = format!(
            "for process in /proc/[0-9]*; do [ -s $process/{file} ] && exec busybox awk '{COUNT}' $process/{file}; done"
        );
        let said = machine.run(&["sh", "-c", &script]);
        Counts::read(&said.stdout).map_err(|said| anyhow!("no counts of {target} on the machine: {said}"))
    }

    /// The same after some more requests have begun and ended.
    pub(crate) fn more(&self, fleet: &Fleet, node: &str, target: &str) -> Result<Counts> {
        let first = self.counts(fleet, node, target)?;
        wait_for("more requests", || {
            let now = self.counts(fleet, node, target)?;
            Ok(if now.asked > first.asked + 3 {
                Ok(now)
            } else {
                Err(format!("{now:?}"))
            })
        })
    }

    /// The same after `count` requests in a row were answered. A machine that is busy now and then answers one too late; what leads nowhere
    /// fails again and again.
    pub(crate) fn answered(&self, fleet: &Fleet, node: &str, target: &str, count: u64) -> Result<Counts> {
        let mut first = self.counts(fleet, node, target)?;
        wait_for("requests that are answered in a row", || {
            let now = self.counts(fleet, node, target)?;
            if now.failed != first.failed {
                first = now.clone();
            }
            Ok(if now.asked >= first.asked + count {
                Ok(now)
            } else {
                Err(format!("{now:?}"))
            })
        })
    }

    /// What the client on a node has seen of the name.
    pub(crate) fn names(&self, fleet: &Fleet, node: &str) -> Result<Names> {
        let said = self
            .exec(fleet, node, "cat /tmp/names")
            .context("read what names led to")?;
        let count = |what: &str| said.lines().filter(|line| *line == what).count();
        Ok(Names {
            named: count("named"),
            empty: count("empty"),
            gone: count("gone"),
            wrong: count("wrong"),
        })
    }

    fn exec(&self, fleet: &Fleet, node: &str, script: &str) -> Option<String> {
        let pod = &self.pods.get(node)?.name;
        let said = fleet.client().run(&["exec", pod, "--", "sh", "-c", script]);
        said.success.then_some(said.stdout)
    }
}

impl Counts {
    /// The counts that [`COUNT`] prints, or what it printed instead.
    fn read(said: &str) -> Result<Self, String> {
        let numbers: Vec<u64> = said
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        match &numbers[..] {
            &[asked, failed, twice, ref how @ ..] => Ok(Counts {
                asked,
                failed,
                twice,
                how: how.to_vec(),
            }),
            _ => Err(said.to_owned()),
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts {
            asked,
            failed,
            twice,
            how,
        } = self;
        write!(
            f,
            "{failed} of {asked} requests failed, {twice} of them after another {how:?}"
        )
    }
}
