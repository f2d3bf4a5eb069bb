//! `everynode image import|list|rm`: manages the container images of this machine.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use runtime::{ImageInfo, Images};

use super::get::print;
use crate::client::table::columns;
use crate::node_args::ImageArgs;

/// Import, list or remove container images on this machine
#[derive(Args, Debug)]
pub(crate) struct Image {
    #[command(subcommand)]
    verb: Verb,

    /// Data directory of the node
    #[arg(long, global = true, value_name = "DIR", default_value = super::DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Unpack an image archive (OCI or docker; `docker save`, `skopeo copy`), so that no registry
    /// is needed
    Import {
        /// Image archive (tar)
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Name of the image (default: the name in the archive)
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        limits: ImageArgs,
    },
    /// List the images
    #[command(alias = "ls")]
    List,
    /// Remove images that no container uses
    #[command(alias = "remove")]
    Rm {
        /// Image names as `image list` prints them
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl Image {
    /// Runs the verb. It blocks, because all work is on the disk.
    pub(crate) fn run(self) -> Result<()> {
        let fresh = !self.data_dir.exists();
        if fresh && !matches!(self.verb, Verb::Import { .. }) {
            bail!(
                "no node keeps its data in {}: name its folder with --data-dir",
                self.data_dir.display()
            );
        }
        let images = Images::open(&self.data_dir)
            .with_context(|| format!("open the images in {}", self.data_dir.display()))?;
        match self.verb {
            Verb::Import { files, name, limits } => {
                let images = images.with_limits(limits.limits());
                if name.is_some() && files.len() > 1 {
                    bail!("--name gives a name to one archive; {} are named", files.len());
                }
                each(&files, |file| {
                    for image in images.import(file, name.as_deref()).map_err(naming_hint)? {
                        print(format!("imported {}\n", image.name).as_bytes())?;
                    }
                    Ok(())
                })
            }
            Verb::List => print(table(&images.list().context("list the images")?).as_bytes()),
            Verb::Rm { names } => each(&names, |name| {
                images.remove(name)?;
                let whole = runtime::normalize_name(name).unwrap_or_else(|_| name.clone());
                print(format!("removed {whole}\n").as_bytes())
            }),
        }
    }
}

/// Calls `work` for each item and continues after an error. Fails at the end if any failed.
fn each<T>(items: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<()> {
    let mut failed = None;
    for item in items {
        if let Err(error) = work(item)
            && let Some(previous) = failed.replace(error)
        {
            eprintln!("{}", crate::client::error::describe(&previous));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Adds a remedy to the error of an archive without a name.
fn naming_hint(error: runtime::Error) -> anyhow::Error {
    let nameless = error.to_string().contains("names no image");
    let error = anyhow::Error::new(error);
    if nameless {
        anyhow::anyhow!("{error:#}, with --name NAME")
    } else {
        error
    }
}

fn table(images: &[ImageInfo]) -> String {
    let mut rows = vec![["NAME", "IMAGE ID", "SIZE"].map(str::to_owned).to_vec()];
    for image in images {
        let id = image
            .digest
            .trim_start_matches("sha256:")
            .chars()
            .take(12)
            .collect();
        rows.push(vec![
            image.name.clone(),
            id,
            format!("{:.1} MB", image.size as f64 / 1e6),
        ]);
    }
    columns(&rows, 3)
}
