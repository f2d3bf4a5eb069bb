//! Everynode: one binary, its roles (`up`, `server`, `agent`, `simulate`) and the client's verbs.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the edge: its output is what it prints"
)]

mod cli;
mod client;
mod control_plane;
mod log;
mod network_args;
mod node_args;
mod verbs;
mod well_known;

use std::process::ExitCode;

use anyhow::{Context, Result};

use cli::{Cli, Verb};

/// The server allocates and frees millions of small objects on all threads. With 10,000 nodes, the
/// C library's allocator used a third of the control plane's processor time, and more as the heap
/// grew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A pod's shim enters namespaces, which the kernel allows only to a process with one thread. So
    // this must come first.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|verb| verb == runtime::shim::VERB) {
        return runtime::shim::main(args.collect());
    }
    match run(cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", client::error::describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    // Several libraries could install a crypto provider; this selects ours.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("a TLS provider is installed already");
    }
    cli.log.start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let connect = cli.connect.clone();
    let code = runtime.block_on(async {
        let done = dispatch(cli).await;
        if let Err(error) = &done
            && let Some(hint) = client::whereabouts::hint(error, &connect).await
        {
            eprintln!("{}\n{hint}", client::error::describe(error));
            return Ok(ExitCode::FAILURE);
        }
        done
    });
    // A pending read of standard input must not keep the process alive.
    runtime.shutdown_background();
    code
}

async fn dispatch(Cli { verb, connect, .. }: Cli) -> Result<ExitCode> {
    match verb {
        Verb::Up(up) => up.run().await?,
        Verb::Agent(agent) => return agent.run().await,
        Verb::Token(token) => token.run(&connect).await?,
        Verb::Kubeconfig(kubeconfig) => kubeconfig.run(&connect).await?,
        Verb::Version(version) => version.run(&connect).await?,
        Verb::Server(server) => server.run().await?,
        Verb::Simulate(simulate) => simulate.run(&connect).await?,
        Verb::Image(image) => tokio::task::spawn_blocking(|| image.run())
            .await
            .context("work on the images")??,
        Verb::Store(store) => store.run().await?,
        Verb::Page(page) => page.run().await?,
        Verb::Get(get) => get.run(&connect).await?,
        Verb::Describe(describe) => describe.run(&connect).await?,
        Verb::Why(why) => why.run(&connect).await?,
        Verb::Plan(plan) => plan.run(&connect).await?,
        Verb::Create(create) => create.run(&connect).await?,
        Verb::Apply(apply) => apply.run(&connect).await?,
        Verb::Delete(delete) => delete.run(&connect).await?,
        Verb::Rollout(rollout) => rollout.run(&connect).await?,
        Verb::Label(label) => label.run(&connect).await?,
        Verb::Annotate(annotate) => annotate.run(&connect).await?,
        Verb::Taint(taint) => taint.run(&connect).await?,
        Verb::Cordon(cordon) => cordon.run(&connect).await?,
        Verb::Uncordon(uncordon) => uncordon.run(&connect).await?,
        Verb::Drain(drain) => drain.run(&connect).await?,
        Verb::Events(events) => events.run(&connect).await?,
        Verb::Completion(completion) => completion.run()?,
        Verb::Logs(logs) => logs.run(&connect).await?,
        Verb::Exec(exec) => return exec.run(&connect).await,
    }
    Ok(ExitCode::SUCCESS)
}
