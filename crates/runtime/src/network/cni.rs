//! The pods' network by plugins that are installed on the machine: the runtime's side of the
//! Container Network Interface (CNI).
//!
//! The network is the first configuration in a folder: a list of plugins. Each plugin is a program.
//! Its environment has the operation ([`plugin`]), and its input is the configuration as JSON
//! ([`config`]). Its result is passed to the next plugin ([`answer`]). A pod is added in the order
//! of the list and deleted in the reverse order, with the list that it was added with, because the
//! current list may differ.
//!
//! A record is written to the pod's folder before the first plugin runs. It is removed with the
//! folder after the last plugin has succeeded. CNI permits repeated deletion, so a failed deletion
//! is retried.
//!
//! Not used: CHECK, because it gives no more than probes do; GC, because the network may be shared
//! with other runtimes of the machine, whose pods it would remove.

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

/// Name of the pod's end of the interface that the plugins create.
const POD_LINK: &str = "eth0";
/// Capability of plugins that forward host ports to pods.
const PORT_MAPPINGS: &str = "portMappings";

/// Folders of the plugins and their configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cni {
    /// Folder of configurations. The first one by name is the pods' network.
    pub conf_dir: PathBuf,
    /// Folders of plugins, in the order of the search.
    pub bin_dirs: Vec<PathBuf>,
}

/// A pod to add.
pub(super) struct Newcomer<'a> {
    /// The pod's id.
    pub(super) id: &'a str,
    /// Arguments for the plugins.
    pub(super) args: &'a PluginArgs,
    pub(super) host_ports: &'a [HostPort],
    /// The node's pod ranges.
    pub(super) ranges: &'a [Range],
    /// A process in its network namespace.
    pub(super) pid: u32,
}

/// Result of the plugins for a pod.
pub(super) struct Added {
    /// The addresses in the plugins' order.
    pub(super) addresses: Vec<PodAddress>,
    /// Whether a plugin forwards the host ports.
    pub(super) leads_ports: bool,
}

/// Saved record of a pod that was passed to plugins.
#[derive(Debug, Serialize, Deserialize)]
struct Attachment {
    list: List,
    cni: Cni,
    container: String,
    /// `CNI_ARGS`.
    args: String,
    /// The value for each capability, if a plugin has it.
    runtime: Map<String, Value>,
    /// Device and inode number of the pod's network namespace, to detect another one.
    namespace: (u64, u64),
    /// Result of the last plugin, after all have succeeded.
    answer: Option<Value>,
}

impl Cni {
    /// Returns an error if pods cannot be added now: there is no configuration, or a plugin reports
    /// that it is not ready.
    pub(super) fn check(&self) -> Result<()> {
        let list = self.list()?;
        // Plugins of older versions do not support STATUS.
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

    /// Returns an error if there is no configuration.
    pub(super) fn is_configured(&self) -> Result<()> {
        self.list().map(drop)
    }

    fn list(&self) -> Result<List> {
        config::find(&self.conf_dir).map_err(|why| not_ready(&format!("cni plugin not initialized: {why}")))
    }

    /// Adds a pod. `record` is the file for the data that its deletion needs.
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

/// Deletes the result of [`Cni::add`]. Succeeds if there is none. `namespace` is the namespace that
/// should be the pod's, if it still exists.
pub(super) fn delete(record: &Path, namespace: Option<&File>) -> Result<()> {
    let Some(attachment) = layout::read_json::<Attachment>(record)? else {
        return Ok(());
    };
    let deleted = attachment.delete(&attachment.list, namespace);
    // An error in the configuration that prevented the pod's addition may also prevent its
    // deletion, and may be corrected by now.
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
        // Our descriptor keeps the namespace until the plugins are done, also after the pod's last
        // process has ended.
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

/// Returns the values for plugins that declare a capability, in the form of the CNI conventions.
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
