//! The command line: roles first, then the client's verbs.

use clap::{Parser, Subcommand};

use crate::client::connection::ConnectArgs;
use crate::verbs;

/// One copy of a pod on every node that should have it: Kubernetes DaemonSets in one small binary
#[derive(Parser, Debug)]
#[command(
    name = "everynode",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    Up(verbs::up::Up),
    Server(verbs::server::Server),
    Simulate(verbs::simulate::Simulate),
    Image(verbs::image::Image),
    #[command(name = "demo-page", hide = true)]
    Page(verbs::page::Page),
    Get(verbs::get::Get),
    Describe(verbs::describe::Describe),
    Why(verbs::why::Why),
    Create(verbs::create::Create),
    Apply(verbs::apply::Apply),
    Delete(verbs::delete::Delete),
    Rollout(verbs::rollout::Rollout),
    Label(verbs::label::Label),
    Annotate(verbs::annotate::Annotate),
    Taint(verbs::taint::Taint),
    Cordon(verbs::cordon::Cordon),
    Uncordon(verbs::cordon::Uncordon),
    Drain(verbs::drain::Drain),
    Events(verbs::events::Events),
    Logs(verbs::logs::Logs),
    Exec(verbs::exec::Exec),
    Completion(verbs::completion::Completion),
}
