//! `fnhost completions`: what a shell completes.

use super::Cli;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Prints shell completions.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fnhost completions bash > ~/.local/share/bash-completion/completions/fnhost
  fnhost completions zsh > ~/.zfunc/_fnhost
  fnhost completions fish > ~/.config/fish/completions/fnhost.fish")]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints them.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fnhost", &mut script);
    // Written here, since the generator panics where its reader has gone.
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(())
}
