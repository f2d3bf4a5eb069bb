//! `everynode completion`: prints the completion script of a shell.

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;

use super::get::print;

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(everynode completion bash)                                            this shell only
  everynode completion bash > /etc/bash_completion.d/everynode                   every bash
  everynode completion zsh > \"${fpath[1]}/_everynode\"                            every zsh
  everynode completion fish > ~/.config/fish/completions/everynode.fish          every fish")]
pub(crate) struct Completion {
    /// Shell
    #[arg(value_enum)]
    shell: Supported,
}

/// The shells whose scripts we have tried.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(crate) fn run(self) -> Result<()> {
        let shell = match self.shell {
            Supported::Bash => Shell::Bash,
            Supported::Zsh => Shell::Zsh,
            Supported::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut crate::cli::command(), "everynode", &mut script);
        print(&script)
    }
}
