//! `./dev build`: functions as components in target/functions/, the host, and what runs beside it in target/tools/.

use crate::checkout::Checkout;
use crate::files::install;
use crate::process::{cargo, run, say};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What components are built for.
const WASM_TARGET: &str = "wasm32-wasip2";
/// The profile of components.
const WASM_PROFILE: &str = "function";

/// Builds these functions, or with no name all of them, the host and the payment gateway.
///
/// # Errors
/// There is no function of a name, or cargo fails; the error says which.
pub fn build(checkout: &Checkout, names: &[String]) -> anyhow::Result<()> {
    if names.is_empty() {
        functions(checkout, &checkout.functions)?;
        say("building the host");
        programs(&["fnhost", "payment-gateway"])?;
        let gateway = "payment-gateway";
        return install(&checkout.program(gateway), &Path::new("target/tools").join(gateway));
    }
    check(checkout, names)?;
    functions(checkout, names)
}

/// Builds the host alone.
///
/// # Errors
/// cargo fails.
pub fn host() -> anyhow::Result<()> {
    say("building the host");
    programs(&["fnhost"])
}

/// Builds a host whose guards can be taken away, for the fault suite alone, and answers where it is.
///
/// # Errors
/// cargo fails.
pub fn without_guards(checkout: &Checkout) -> anyhow::Result<PathBuf> {
    say("building the host whose guards can be taken away");
    let mut command = cargo("build");
    command.args(["--release", "--workspace", "--bin", "fnhost", "--features", "fnhost/guards-off"]);
    run(&mut command)?;
    let program = Path::new("target/tools/fnhost-guards-off");
    install(&checkout.program("fnhost"), program)?;
    // Under its own name stands the usual one again.
    programs(&["fnhost"])?;
    Ok(program.to_owned())
}

/// Builds a program of the workspace, and is the command that runs it.
///
/// # Errors
/// cargo fails.
pub fn program(checkout: &Checkout, name: &str) -> anyhow::Result<Command> {
    programs(&[name])?;
    Ok(Command::new(checkout.program(name)))
}

/// Selects the whole workspace: with the features that all of its packages ask for, what they share is built once, whichever
/// program is built first.
fn programs(names: &[&str]) -> anyhow::Result<()> {
    let mut command = cargo("build");
    command.args(["--release", "--workspace"]).args(names.iter().flat_map(|name| ["--bin", name]));
    run(&mut command)
}

fn check(checkout: &Checkout, names: &[String]) -> anyhow::Result<()> {
    let there_are = &checkout.functions;
    for name in names {
        anyhow::ensure!(
            there_are.contains(name),
            "there is no function {name} (there are: {})",
            there_are.join(" ")
        );
    }
    Ok(())
}

fn functions(checkout: &Checkout, names: &[String]) -> anyhow::Result<()> {
    say(format_args!("building {} for {WASM_TARGET}", names.join(" ")));
    let mut command = cargo("build");
    command.args(["--profile", WASM_PROFILE, "--target", WASM_TARGET]);
    command.args(names.iter().flat_map(|name| ["-p", name]));
    run(&mut command)?;
    for name in names {
        // A library's file has no hyphens.
        let built = checkout.target.join(WASM_TARGET).join(WASM_PROFILE);
        let built = built.join(format!("{}.wasm", name.replace('-', "_")));
        install(&built, &Path::new("target/functions").join(format!("{name}.wasm")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_function_is_refused_before_anything_is_built() {
        let checkout = Checkout {
            target: "/nowhere".into(),
            version: String::new(),
            functions: ["auth", "order"].map(str::to_owned).to_vec(),
        };
        let refused = build(&checkout, &["auth".to_owned(), "kit".to_owned()]).expect_err("no such function");
        assert_eq!(refused.to_string(), "there is no function kit (there are: auth order)");
    }
}
