//! `everynode image import|list|rm`: the container images of this machine.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use runtime::{ImageInfo, Images};

use super::get::print;
use crate::client::table::columns;

/// Bring, list or remove the container images of this machine
#[derive(Args, Debug)]
pub(crate) struct Image {
    #[command(subcommand)]
    verb: Verb,

    /// Where the node keeps what it has
    #[arg(long, global = true, value_name = "DIR", default_value = super::DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Unpack an image archive (OCI or docker; `docker save`, `skopeo copy`), so that no registry is needed
    Import {
        /// The archive, a tar file
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Give the image this name instead of the one in the archive
        #[arg(long)]
        name: Option<String>,
    },
    /// List the images
    #[command(alias = "ls")]
    List,
    /// Remove images that no container uses
    #[command(alias = "remove")]
    Rm {
        /// Names as `list` shows them
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl Image {
    /// Blocks; everything here is the disk's work.
    pub(crate) fn run(self) -> Result<()> {
        let images = Images::open(&self.data_dir)
            .with_context(|| format!("open the images in {}", self.data_dir.display()))?;
        match self.verb {
            Verb::Import { files, name } => {
                for file in files {
                    let imported = images
                        .import(&file, name.as_deref())
                        .with_context(|| format!("import {}", file.display()))?;
                    for image in imported {
                        print(format!("imported {}\n", image.name).as_bytes())?;
                    }
                }
                Ok(())
            }
            Verb::List => print(table(&images.list().context("list the images")?).as_bytes()),
            Verb::Rm { names } => {
                for name in names {
                    images
                        .remove(&name)
                        .with_context(|| format!("remove the image {name}"))?;
                    print(format!("removed {name}\n").as_bytes())?;
                }
                Ok(())
            }
        }
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
