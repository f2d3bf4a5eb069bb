//! The command line: roles first, then the client's verbs.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error, FromArgMatches, Parser, Subcommand};

use crate::client::connection::ConnectArgs;
use crate::client::suggest;
use crate::log::LogArgs;
use crate::verbs;

/// One copy of a pod on every node that should have it: Kubernetes DaemonSets in one small binary
#[derive(Parser, Debug)]
#[command(name = "everynode", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    Up(verbs::up::Up),
    Server(verbs::server::Server),
    Agent(verbs::agent::Agent),
    Token(verbs::token::Token),
    Kubeconfig(verbs::kubeconfig::NewKubeconfig),
    Simulate(verbs::simulate::Simulate),
    Image(verbs::image::Image),
    Store(verbs::store::Store),
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
    Version(verbs::version::Version),
}

/// Verbs by topic, in the order in which a new user needs them.
const GROUPS: [(&str, &[&str]); 5] = [
    (
        "Run it",
        &[
            "up",
            "server",
            "agent",
            "token",
            "kubeconfig",
            "simulate",
            "image",
            "store",
        ],
    ),
    ("Look", &["get", "describe", "why", "events", "logs", "exec"]),
    (
        "Change",
        &[
            "plan", "apply", "create", "delete", "rollout", "label", "annotate",
        ],
    ),
    ("Nodes", &["cordon", "uncordon", "drain", "taint"]),
    ("Other", &["completion", "version"]),
];

/// Returns the command line, with its verbs in groups on the first page of help.
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
        The commands below \"Run it\" work with any Kubernetes API server and take kubectl's arguments.\n\
        `everynode help COMMAND` describes one.\n\nOptions:\n{{options}}"
    ))
}

/// Parses the program's arguments. If they are wrong, the process prints the error and exits with
/// 2.
pub(crate) fn parse() -> Cli {
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| harmless(error).exit())
}

/// Commands that only kubectl has.
const KUBECTL_ONLY: [&str; 21] = [
    "api-resources",
    "api-versions",
    "attach",
    "auth",
    "autoscale",
    "certificate",
    "cluster-info",
    "config",
    "cp",
    "debug",
    "diff",
    "edit",
    "explain",
    "expose",
    "kustomize",
    "patch",
    "port-forward",
    "proxy",
    "replace",
    "set",
    "wait",
];

/// Removes suggestions that would do harm.
fn harmless(mut error: Error) -> Error {
    // For an unknown flag clap suggests `-- --flag`. `delete ds x -- --dry-run` deletes x.
    error.remove(ContextKind::Suggested);
    // clap suggests `up` for `upgrade`, and `taint` for `wait`.
    let word = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string);
    if let Some(word) = word.as_deref().filter(|word| KUBECTL_ONLY.contains(word)) {
        let text = format!(
            "everynode has no command '{word}'. kubectl has it and works with this server: kubectl {word} --kubeconfig FILE"
        );
        return command().error(ErrorKind::InvalidSubcommand, text);
    }
    if let Some(word) = word
        && let Some(ContextValue::Strings(names)) = error.remove(ContextKind::SuggestedSubcommand)
        && let Some(near) = suggest::nearest(&word, names.iter().map(String::as_str))
    {
        let near = ContextValue::Strings(vec![near.to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, near);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text that a wrong command line prints.
    fn refusal(words: &str) -> String {
        let words = std::iter::once("everynode").chain(words.split(' '));
        let refused = command().try_get_matches_from(words).expect_err("it is wrong");
        harmless(refused).to_string()
    }

    #[test]
    fn an_unknown_flag_is_never_offered_as_a_value() {
        let command = command();
        for verb in command.get_subcommands() {
            if verb.get_name() == "help" {
                continue;
            }
            let said = refusal(&format!("{} --no-such-flag x", verb.get_name()));
            assert!(said.contains("unexpected argument '--no-such-flag'"), "{said}");
            assert!(!said.contains("-- --no-such-flag"), "{said}");
        }
        assert!(refusal("get pods --selectr a=b").contains("'--selector'"));
    }

    #[test]
    fn only_a_near_command_is_suggested() {
        for word in ["upgrade", "rm", "start"] {
            let said = refusal(word);
            assert!(said.contains("unrecognized subcommand"), "{said}");
            assert!(!said.contains("tip:"), "{said}");
        }
        let said = refusal("wait ds/x");
        assert!(
            said.contains("kubectl has it") && !said.contains("tip:"),
            "{said}"
        );
        assert!(refusal("delte ds x").contains("'delete'"));
        assert!(refusal("rollout und ds/x").contains("'undo'"));
    }

    #[test]
    fn every_verb_that_changes_objects_has_a_dry_run() {
        let command = command();
        let changing = "create apply delete label annotate taint cordon uncordon drain";
        let rollout = command.find_subcommand("rollout").expect("rollout");
        let verbs = changing.split(' ').map(|name| command.find_subcommand(name));
        let verbs = verbs.chain(["undo", "restart"].map(|name| rollout.find_subcommand(name)));
        for verb in verbs {
            let verb = verb.expect("a verb");
            let has = verb.get_arguments().any(|arg| arg.get_long() == Some("dry-run"));
            assert!(has, "{}", verb.get_name());
        }
    }

    #[test]
    fn the_first_page_names_every_verb_once_and_fits_a_terminal() {
        let command = command();
        let shown = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
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
