//! A kubectl that goes on: watches, and verbs that wait.

use std::fs::File;
use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context, Result};
use testkit::wait_for;

use super::{Kubectl, words};
use crate::fleet::Fleet;

/// A running kubectl; both outputs go to one file. Ended when dropped.
pub(super) struct Following {
    child: Child,
    output: PathBuf,
    line: String,
}

impl Following {
    pub(super) fn start(fleet: &Fleet, kubectl: &Kubectl, line: &str) -> Result<Self> {
        let output = fleet.server.folder().join("following");
        let file = File::create(&output).context("make a file for what kubectl says")?;
        let child = kubectl
            .client
            .command(&words(line))
            .stdout(file.try_clone().context("share the file")?)
            .stderr(file)
            .spawn()
            .context("start kubectl")?;
        Ok(Self {
            child,
            output,
            line: line.to_owned(),
        })
    }

    fn said(&self) -> Result<String> {
        std::fs::read_to_string(&self.output).context("read what kubectl said")
    }

    /// Waits until it has printed `text`, and gives everything so far.
    pub(super) fn prints(&mut self, text: &str) -> Result<String> {
        wait_for(&format!("{} to print {text:?}", self.line), || {
            let said = self.said()?;
            Ok(match said.contains(text) {
                true => Ok(said),
                false => Err(said),
            })
        })
    }

    /// Waits until it has ended by itself: whether well, and all that it said.
    pub(super) fn ends(&mut self) -> Result<(bool, String)> {
        let status = wait_for(&format!("{} to end", self.line), || {
            let status = self.child.try_wait().context("look at kubectl")?;
            Ok(match status {
                Some(status) => Ok(status),
                None => Err(self.said()?),
            })
        })?;
        Ok((status.success(), self.said()?))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // One that has ended cannot be killed; there is nothing to do about another failure.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
