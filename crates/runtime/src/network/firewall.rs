//! Effects of the machine's other rules on packets of pods. Every nftables table can drop forwarded
//! packets, even if ours accept them.
//!
//! Docker sets the policy of iptables' chain FORWARD to drop, and so do common guides. Pod networks
//! add a rule there that accepts packets of their own bridge, and so do we. Other chains that drop
//! belong to an administrator's firewall: they are reported and not changed.

use std::process::{Command, Stdio};

use super::forwarding;
use crate::bounded;
use crate::error::Context as _;
use crate::{Error, Result};

/// Files in which the kernel lists tables of legacy iptables, if it supports them.
const LEGACY_TABLES: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];

/// A chain that drops forwarded packets which no rule accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dropping {
    family: String,
    table: String,
    chain: String,
}

/// Accepts packets of a bridge if iptables drops forwarded packets. Returns a description and a
/// remedy for everything that still drops them.
pub(super) fn let_through(bridge: &str) -> Result<Vec<String>> {
    let mut dropped = Vec::new();
    for chain in dropping(&forwarding::read(&["list", "chains"])?) {
        let iptables = match (chain.family.as_str(), chain.table.as_str(), chain.chain.as_str()) {
            ("ip", "filter", "FORWARD") => accept(&["iptables-nft", "iptables"], bridge),
            ("ip6", "filter", "FORWARD") => accept(&["ip6tables-nft", "ip6tables"], bridge),
            _ => Err(Error::machine("it is not iptables'")),
        };
        if iptables.is_err() {
            let Dropping { family, table, chain } = chain;
            let place = format!("{family} {table} {chain}");
            dropped.push(format!(
                "the chain {chain} of the table {family} {table} drops packets of pods. Allow them: \
                 nft 'insert rule {place} iifname \"{bridge}\" accept; insert rule {place} oifname \"{bridge}\" accept'"
            ));
        }
    }
    for (tables, program) in LEGACY_TABLES.iter().zip(["iptables-legacy", "ip6tables-legacy"]) {
        let has_filter =
            bounded::kernel(tables).is_ok_and(|names| names.lines().any(|name| name == "filter"));
        let drops = || {
            run(program, &["-S", "FORWARD"])
                .is_ok_and(|rules| rules.lines().any(|rule| rule == "-P FORWARD DROP"))
        };
        if has_filter
            && drops()
            && let Err(error) = accept(&[program], bridge)
        {
            dropped.push(format!(
                "{program}'s chain FORWARD drops packets of pods: {error}"
            ));
        }
    }
    Ok(dropped)
}

/// Removes the rules of [`let_through`]. Succeeds if there are none.
pub(super) fn forget(bridge: &str) {
    for program in [
        "iptables-nft",
        "iptables",
        "ip6tables-nft",
        "ip6tables",
        "iptables-legacy",
        "ip6tables-legacy",
    ] {
        for direction in ["-i", "-o"] {
            let rule = rule(bridge, direction);
            // Even a query by iptables would create a missing table, so this checks first. Removing
            // a missing rule fails, which is ignored.
            if is_in_use(program) && run(program, &[&["-D"], &rule[..]].concat()).is_ok() {
                tracing::debug!(program, bridge, direction, "the rule for the bridge is gone");
            }
        }
    }
}

/// Returns whether a program has a table with forwarding rules.
fn is_in_use(program: &str) -> bool {
    match program.strip_suffix("-legacy") {
        Some(_) => {
            let tables = LEGACY_TABLES[usize::from(program.starts_with("ip6"))];
            bounded::kernel(tables).is_ok_and(|names| names.lines().any(|name| name == "filter"))
        }
        None => {
            let family = if program.starts_with("ip6") { "ip6" } else { "ip" };
            forwarding::read(&["list", "chain", family, "filter", "FORWARD"]).is_ok()
        }
    }
}

/// Adds rules that accept packets of a bridge in both directions, with the first of these programs
/// that is installed.
fn accept(programs: &[&str], bridge: &str) -> Result<()> {
    let installed = |program: &&&str| run(program, &["--version"]).is_ok();
    let program = programs.iter().find(installed);
    let program =
        program.ok_or_else(|| Error::machine(format!("{} is not installed", programs.join(" or "))))?;
    for direction in ["-i", "-o"] {
        let rule = rule(bridge, direction);
        if run(program, &[&["-C"], &rule[..]].concat()).is_err() {
            run(program, &[&["-I"], &rule[..]].concat())?;
            tracing::info!(
                program,
                bridge,
                direction,
                "the chain FORWARD dropped packets of pods; added rules that accept them"
            );
        }
    }
    Ok(())
}

/// Returns a rule whose purpose is visible when the chain is listed.
fn rule<'a>(bridge: &'a str, direction: &'a str) -> [&'a str; 9] {
    [
        "FORWARD",
        direction,
        bridge,
        "-m",
        "comment",
        "--comment",
        "everynode",
        "-j",
        "ACCEPT",
    ]
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    // Waits for other programs that change the rules at the same time.
    let wait: &[&str] = if arguments == ["--version"] {
        &[]
    } else {
        &["-w", "5"]
    };
    let mut command = Command::new(program);
    command
        .args(wait)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = bounded::output(&mut command, b"").context(|| format!("run {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let first = words.lines().next().unwrap_or("no reason given");
    Err(Error::machine(format!("{program}: {first}")))
}

/// Returns the chains in a listing that drop forwarded packets by default.
fn dropping(chains: &str) -> Vec<Dropping> {
    let mut found = Vec::new();
    let (mut table, mut chain) = (("", ""), "");
    for line in chains.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["table", family, name, ..] => table = (family, name),
            ["chain", name, ..] => chain = name,
            // Bridges and devices have other hooks. Packets between networks pass these.
            ["type", "filter", "hook", "forward", ..]
                if matches!(table.0, "ip" | "ip6" | "inet") && line.contains("policy drop") =>
            {
                found.push(Dropping {
                    family: table.0.to_owned(),
                    table: table.1.to_owned(),
                    chain: chain.to_owned(),
                });
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_what_is_forwarded_are_found() {
        let listing = r#"table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain DOCKER {
	}
}
table inet site {
	chain passing {
		type filter hook forward priority filter + 5; policy drop;
	}
	chain also {
		type filter hook forward priority filter; policy accept;
	}
}
table bridge links {
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
}
"#;
        let found: Vec<String> = dropping(listing)
            .iter()
            .map(|found| format!("{} {} {}", found.family, found.table, found.chain))
            .collect();
        assert_eq!(found, ["ip filter FORWARD", "inet site passing"]);
        assert_eq!(dropping(""), []);
    }
}
