//! Everynode: one binary, its roles (`up`, `server`, `agent`, `simulate`) and the client's verbs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the edge: its output is what it prints")]

mod cli;
mod client;
mod verbs;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Verb};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", client::error::describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    // Several libraries could bring a provider of their own; the one that we link is named once, here.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("a TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let code = runtime.block_on(dispatch(cli));
    // A read of standard input that nobody waits for any more must not keep the program.
    runtime.shutdown_background();
    code
}

async fn dispatch(Cli { verb, connect }: Cli) -> Result<ExitCode> {
    match verb {
        Verb::Get(get) => get.run(&connect).await?,
        Verb::Describe(describe) => describe.run(&connect).await?,
        Verb::Create(create) => create.run(&connect).await?,
        Verb::Apply(apply) => apply.run(&connect).await?,
        Verb::Delete(delete) => delete.run(&connect).await?,
        Verb::Rollout(rollout) => rollout.run(&connect).await?,
        Verb::Logs(logs) => logs.run(&connect).await?,
        Verb::Exec(exec) => return exec.run(&connect).await,
    }
    Ok(ExitCode::SUCCESS)
}
