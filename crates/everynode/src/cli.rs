//! The command line: roles first, then the client's verbs.

use clap::{CommandFactory, Parser, Subcommand};

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
    Agent(verbs::agent::Agent),
    Token(verbs::token::Token),
    Simulate(verbs::simulate::Simulate),
    Image(verbs::image::Image),
    #[command(name = "demo-page", hide = true)]
    Page(verbs::page::Page),
    Get(verbs::get::Get),
    Describe(verbs::describe::Describe),
    Why(verbs::why::Why),
    Plan(verbs::plan::Plan),
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

/// The verbs in the order in which somebody new to it meets them.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run it", &["up", "server", "agent", "token", "simulate", "image"]),
    ("Look", &["get", "describe", "why", "events", "logs", "exec"]),
    (
        "Change",
        &[
            "plan", "apply", "create", "delete", "rollout", "label", "annotate",
        ],
    ),
    ("Nodes", &["cordon", "uncordon", "drain", "taint"]),
    ("Your shell", &["completion"]),
];

/// The command line, with its verbs in groups on the first page of help.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let mut verbs = String::new();
    for (title, names) in GROUPS {
        verbs.push_str(&format!("{title}:\n"));
        for name in names {
            let about = command
                .find_subcommand(name)
                .and_then(|verb| verb.get_about().map(ToString::to_string))
                .unwrap_or_default();
            verbs.push_str(&format!("  {name:<12}{about}\n"));
        }
        verbs.push('\n');
    }
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{verbs}\
        All but the first group work against any Kubernetes API server, and speak as kubectl does.\n\
        `everynode COMMAND --help` tells more about one.\n\nOptions:\n{{options}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_names_every_verb_once_and_fits_a_terminal() {
        let command = command();
        let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        for verb in shown {
            let name = verb.get_name();
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&name));
            assert_eq!(groups.count(), 1, "{name}");
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.len() <= 66, "{name} says too much: {about}");
        }
        for (_, names) in GROUPS {
            for name in names {
                assert!(command.find_subcommand(name).is_some(), "{name}");
            }
        }
    }
}
