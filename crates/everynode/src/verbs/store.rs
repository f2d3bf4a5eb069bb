//! `everynode store`: backs up a server's data.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use apiserver::backup;
use bytes::Bytes;
use clap::{Args, Subcommand};
use disk::Disk;
use futures::AsyncReadExt;
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::mpsc;

/// Chunks that are buffered between the connection and the file, so that reading and writing
/// overlap.
const CHUNKS_WAITING_MAX: usize = 16;
const CHUNK_BYTES: usize = 64 << 10;
/// File mode: a backup holds all Secrets and the cluster's keys.
const OWNER_ONLY: u32 = 0o600;

/// Back up a server's data, or restore it
#[derive(Args, Debug)]
pub(crate) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Write all objects and the cluster's keys to one file; the server can keep running
    ///
    /// Run it on the server's machine. The file contains all Secrets and the keys of the cluster's
    /// certificate authority: protect it like these.
    Backup {
        /// File to write. An existing file is replaced when the backup is complete
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Restore a backup into the data directory of a stopped server
    ///
    /// New resource versions are far above those of the backup, so that every client lists again.
    Restore {
        /// File from `everynode store backup`
        file: PathBuf,
        #[command(flatten)]
        place: Place,
        /// Replace the cluster in the data directory; the old one is moved to store.replaced and
        /// pki.replaced
        #[arg(long)]
        force: bool,
    },
    /// Read a backup and check that it can be restored
    Check {
        /// File from `everynode store backup`
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Place {
    /// The data directory of the server
    #[arg(long, value_name = "DIR", default_value = crate::verbs::DATA_DIR)]
    data_dir: PathBuf,
}

impl Store {
    pub(crate) async fn run(self) -> Result<()> {
        match self.verb {
            Verb::Backup { file, place } => back_up(&file, &place.data_dir).await,
            Verb::Restore { file, place, force } => {
                let done = tokio::task::spawn_blocking(move || {
                    backup::restore(&file, &place.data_dir, &Disk::default(), force)
                        .with_context(|| format!("restore {}", file.display()))
                        .map(|contents| (contents, place.data_dir))
                });
                let (contents, data_dir) = done.await.context("restore")??;
                eprintln!(
                    "restored {} objects of resource version {} to {}: start the server",
                    contents.objects,
                    contents.revision,
                    data_dir.display()
                );
                Ok(())
            }
            Verb::Check { file } => {
                let contents = check(&file).await?;
                println!(
                    "{}: whole, {} objects of resource version {}, {} bytes",
                    file.display(),
                    contents.objects,
                    contents.revision,
                    contents.bytes
                );
                Ok(())
            }
        }
    }
}

async fn check(file: &Path) -> Result<backup::Contents> {
    let path = file.to_owned();
    let checked = tokio::task::spawn_blocking(move || backup::check(&path)).await;
    checked
        .context("check the backup")?
        .with_context(|| format!("check {}", file.display()))
}

async fn back_up(file: &Path, data_dir: &Path) -> Result<()> {
    let disk = Disk::default();
    let draft = file.with_added_extension("new");
    let written = write_draft(&disk, &draft, data_dir).await;
    let placed = written.and_then(|()| {
        disk.rename(&draft, file)
            .with_context(|| format!("write {}", file.display()))
    });
    if let Err(error) = placed {
        // An incomplete backup is useless.
        drop(disk.remove(&draft));
        return Err(error);
    }
    let contents = check(file).await?;
    eprintln!(
        "backed up {} objects of resource version {} and the cluster's keys to {}",
        contents.objects,
        contents.revision,
        file.display()
    );
    Ok(())
}

async fn write_draft(disk: &Disk, draft: &Path, data_dir: &Path) -> Result<()> {
    let made = disk
        .remove(draft)
        .and_then(|()| disk.create(draft, OWNER_ONLY))
        .with_context(|| format!("write {}", draft.display()))?;
    let stopped = {
        let (file, data_dir) = (made.try_clone().context("share the file")?, data_dir.to_owned());
        tokio::task::spawn_blocking(move || backup::write(&data_dir, &mut BufWriter::new(file)))
    };
    match stopped.await.context("back up the store")? {
        Ok(()) => {}
        Err(error) if error.is_of_a_running_server() => ask(data_dir, made.try_clone()?).await?,
        Err(error) => return Err(error).with_context(|| format!("back up {}", data_dir.display())),
    }
    made.sync_all()
        .with_context(|| format!("write {}", draft.display()))
}

/// Requests the backup from the server that has the data directory open.
async fn ask(data_dir: &Path, file: File) -> Result<()> {
    let kubeconfig = data_dir.join("admin.kubeconfig");
    let read = Kubeconfig::read_from(&kubeconfig).with_context(|| {
        format!(
            "read the kubeconfig of the running server, {}",
            kubeconfig.display()
        )
    })?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use kubeconfig {}", kubeconfig.display()))?;
    let client = kube::Client::try_from(config).context("prepare the connection")?;
    let request = Request::get(backup::PATH)
        .body(Vec::new())
        .context("build the request")?;
    let answer = client
        .request_stream(request)
        .await
        .context("ask the running server for its objects")?;
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let data_dir = data_dir.to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        let mut source = Chunks {
            receiver,
            current: Bytes::new(),
        };
        let mut out = BufWriter::new(file);
        backup::receive(&mut source, &data_dir, &mut out)?;
        out.flush().map_err(|error| anyhow!(error))
    });
    let mut answer = std::pin::pin!(answer);
    let mut buffer = vec![0; CHUNK_BYTES];
    let sent = loop {
        match answer.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(length) => {
                // The receiver is closed when the backup has failed; its task returns the error.
                if sender
                    .send(Bytes::copy_from_slice(&buffer[..length]))
                    .await
                    .is_err()
                {
                    break Ok(());
                }
            }
            Err(error) => break Err(error).context("read the objects of the running server"),
        }
    };
    drop(sender);
    let written = writing.await.context("write the backup")?;
    sent.and(written)
}

/// Data of a connection, for a blocking reader.
struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let length = out.len().min(self.current.len());
        out[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
