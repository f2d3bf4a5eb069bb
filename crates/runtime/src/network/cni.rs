//! The pods' network by the plugins that are installed on the machine: the container network interface (CNI), from the runtime's side.
//!
//! The network is the first configuration in a folder, a list of plugins. Each is a program: it is told in its environment what to do
//! ([`plugin`]), and by JSON how ([`config`]); what it answers is given to the next ([`answer`]). A pod is added along the list and
//! deleted against it, with the list that it was added by: what there is now may be another.
//!
//! What was added is written beside the pod before the first plugin runs, and goes with the pod's folder after the last one has
//! agreed. Deleting may be repeated, says the interface, so whatever fails between is simply done again.
//!
//! Not used: CHECK, because nothing would follow from it that probes do not say; GC, because the network may be shared with other
//! runtimes of the machine, whose pods it would take away.

mod answer;
mod config;
mod plugin;

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::config::List;
use self::plugin::Call;
use super::Range;
use crate::error::Context as _;
use crate::{Error, ErrorKind, HostPort, PluginArgs, PodAddress, Protocol, Result, layout};

/// The pod's end of what the plugins make.
const POD_LINK: &str = "eth0";
/// The capability of plugins that lead ports of the machine to pods.
const PORT_MAPPINGS: &str = "portMappings";

/// Where the plugins and their configuration are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cni {
    /// The first configuration in it, by name, is the pods' network.
    pub conf_dir: PathBuf,
    /// Plugins are looked for in these, in order.
    pub bin_dirs: Vec<PathBuf>,
}

/// A pod that is to be added.
pub(super) struct Newcomer<'a> {
    /// Its id.
    pub(super) id: &'a str,
    /// What the plugins are told of it.
    pub(super) args: &'a PluginArgs,
    pub(super) host_ports: &'a [HostPort],
    /// The node's pod ranges.
    pub(super) ranges: &'a [Range],
    /// A process in its network namespace.
    pub(super) pid: u32,
}

/// What the plugins made of a pod.
pub(super) struct Added {
    /// In the plugins' order.
    pub(super) addresses: Vec<PodAddress>,
    /// Whether a plugin leads the host ports.
    pub(super) leads_ports: bool,
}

/// A pod that was given to plugins, as it is kept beside the pod.
#[derive(Debug, Serialize, Deserialize)]
struct Attachment {
    list: List,
    cni: Cni,
    container: String,
    /// `CNI_ARGS`.
    args: String,
    /// What each capability is used for, if a plugin has it.
    runtime: Map<String, Value>,
    /// Device and number of the pod's network namespace: another one is not the pod's.
    namespace: (u64, u64),
    /// What the last plugin answered, once all have.
    answer: Option<Value>,
}

impl Cni {
    /// Whether pods can be added now: there is a configuration, and its plugins do not deny it.
    pub(super) fn check(&self) -> Result<()> {
        let list = self.list()?;
        // The plugins of older versions are not asked: they do not know the word.
        if !list.has_status() {
            return Ok(());
        }
        for plugin in &list.plugins {
            let config = list.plugin(plugin, &Map::new(), None);
            let call = Call {
                path: &self.bin_dirs,
                ..Call::default()
            };
            plugin::run("STATUS", &call, &config).map_err(|error| not_ready(&error.message))?;
        }
        Ok(())
    }

    /// Whether there is a configuration.
    pub(super) fn is_configured(&self) -> Result<()> {
        self.list().map(drop)
    }

    fn list(&self) -> Result<List> {
        config::find(&self.conf_dir).map_err(|why| not_ready(&format!("cni plugin not initialized: {why}")))
    }

    /// Adds a pod; `record` is the file that keeps what is needed to delete it.
    pub(super) fn add(&self, pod: &Newcomer<'_>, record: &Path) -> Result<Added> {
        let list = self.list()?;
        let netns = format!("/proc/{}/ns/net", pod.pid);
        let found = fs::metadata(&netns).context(|| format!("look at {netns}"))?;
        let leads_ports = list.has_capability(PORT_MAPPINGS);
        let mut attachment = Attachment {
            list,
            cni: self.clone(),
            container: pod.id.to_owned(),
            args: arguments(pod.args),
            runtime: runtime(pod),
            namespace: (found.dev(), found.ino()),
            answer: None,
        };
        layout::write_json(record, &attachment)?;
        let answer = attachment.add(&netns)?;
        let sandbox = |error| {
            Error::machine(format!(
                "failed to setup network for sandbox {:?}: {error}",
                pod.id
            ))
        };
        let addresses = answer::addresses(&answer, POD_LINK).map_err(sandbox)?;
        attachment.answer = Some(answer);
        layout::write_json(record, &attachment)?;
        Ok(Added {
            addresses,
            leads_ports,
        })
    }
}

/// Deletes what [`Cni::add`] has added; fine when nothing was. `namespace` is what is taken for the pod's, if it still has one.
pub(super) fn delete(record: &Path, namespace: Option<&File>) -> Result<()> {
    let Some(attachment) = layout::read_json::<Attachment>(record)? else {
        return Ok(());
    };
    let deleted = attachment.delete(&attachment.list, namespace);
    // A mistake by which a pod could not be added may be one by which it cannot be deleted either, and mended by now.
    match (deleted, &attachment.answer, attachment.cni.list()) {
        (Err(error), None, Ok(list)) if list != attachment.list => {
            attachment.delete(&list, namespace).map_err(|_| error)
        }
        (deleted, ..) => deleted,
    }
}

impl Attachment {
    fn add(&self, netns: &str) -> Result<Value> {
        let mut answer = None;
        for plugin in &self.list.plugins {
            let config = self.list.plugin(plugin, &self.runtime, answer.as_ref());
            let said = plugin::run("ADD", &self.call(netns), &config).map_err(|error| {
                let message = format!(
                    "failed to setup network for sandbox {:?}: {}",
                    self.container, error.message
                );
                Error::new(error.kind, message)
            })?;
            answer = Some(said);
        }
        Ok(answer.unwrap_or_default())
    }

    fn delete(&self, list: &List, namespace: Option<&File>) -> Result<()> {
        // A descriptor of ours keeps it until the plugins are done, also when the pod's last process has ended.
        let is_own = |file: &&File| {
            file.metadata()
                .is_ok_and(|found| self.namespace == (found.dev(), found.ino()))
        };
        let own = namespace.filter(is_own);
        let netns = own.map_or_else(String::new, |file| {
            format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
        });
        for plugin in list.plugins.iter().rev() {
            let answer = self.answer.as_ref().filter(|_| list.deletes_by_answer());
            let config = list.plugin(plugin, &self.runtime, answer);
            plugin::run("DEL", &self.call(&netns), &config).map_err(|error| {
                let message = format!(
                    "failed to destroy network for sandbox {:?}: {}",
                    self.container, error.message
                );
                Error::new(error.kind, message)
            })?;
        }
        Ok(())
    }

    fn call<'a>(&'a self, netns: &'a str) -> Call<'a> {
        Call {
            container: &self.container,
            netns,
            link: POD_LINK,
            args: &self.args,
            path: &self.cni.bin_dirs,
        }
    }
}

fn not_ready(why: &str) -> Error {
    Error::new(ErrorKind::NetworkNotReady, why)
}

fn arguments(args: &PluginArgs) -> String {
    let pairs = args.arguments.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(";")
}

/// What plugins are told of a pod if they declare the capability, in the conventions' words.
fn runtime(pod: &Newcomer<'_>) -> Map<String, Value> {
    let mut runtime: Map<String, Value> = pod.args.capabilities.clone().into_iter().collect();
    if !pod.host_ports.is_empty() {
        let ports = pod.host_ports.iter().map(mapping).collect();
        runtime.insert(PORT_MAPPINGS.into(), ports);
    }
    if !pod.ranges.is_empty() {
        let ranges = pod
            .ranges
            .iter()
            .map(|range| json!([{ "subnet": range.to_string() }]));
        runtime.insert("ipRanges".into(), ranges.collect());
    }
    runtime
}

fn mapping(port: &HostPort) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let mut mapping = json!({
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": protocol,
    });
    if let Some(address) = port.host_ip.filter(|address| !address.is_unspecified()) {
        mapping["hostIP"] = address.to_string().into();
    }
    mapping
}

#[cfg(test)]
mod tests;
