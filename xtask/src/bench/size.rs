//! `cargo xtask bench size`: prints the size of the release binary by section and by crate.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::command::{built, cargo, output};

/// Crates that are listed; the others are summed up.
const SHOWN: usize = 40;
/// Smallest section that is listed, in bytes.
const LEAST_SECTION: u64 = 100_000;

/// Builds the release binary with symbols and prints tables.
pub(super) fn run() -> Result<()> {
    let status = cargo(&["build", "--release", "--package", "everynode"])
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    let named = built("release", "everynode").display().to_string();
    let stripped = format!("{named}.stripped");
    output("strip", &["-o", &stripped, &named])?;
    let size = fs::metadata(&stripped).context("look at the binary")?.len();
    println!("binary: {:.1} MB\n", size as f64 / 1e6);
    println!("| section | MB |\n|---|---|");
    for (section, bytes) in sections(&output("size", &["-A", "-d", &stripped])?) {
        println!("| {section} | {:.2} |", bytes as f64 / 1e6);
    }
    fs::remove_file(&stripped).context("remove the stripped copy")?;
    let symbols = output("nm", &["--print-size", "--radix=d", "--defined-only", &named])?;
    println!("\n| crate | code, MB | read-only data with a name, MB |\n|---|---|---|");
    let mut crates: Vec<(String, [u64; 2])> = by_crate(&symbols).into_iter().collect();
    crates.sort_by_key(|(_, [code, data])| std::cmp::Reverse(code + data));
    let rest = crates.split_off(SHOWN.min(crates.len()));
    let others = rest
        .iter()
        .fold([0, 0], |sum, (_, bytes)| [sum[0] + bytes[0], sum[1] + bytes[1]]);
    crates.push((format!("{} others", rest.len()), others));
    for (name, [code, data]) in crates {
        println!("| {name} | {:.2} | {:.2} |", code as f64 / 1e6, data as f64 / 1e6);
    }
    Ok(())
}

/// Returns the large sections that are loaded, from the output of `size -A`.
fn sections(text: &str) -> Vec<(&str, u64)> {
    let mut sections: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, bytes, address) = (words.next()?, words.next()?, words.next()?);
            let bytes: u64 = bytes.parse().ok()?;
            (bytes >= LEAST_SECTION && address != "0").then_some((name, bytes))
        })
        .collect();
    sections.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    sections
}

/// Returns the bytes of code and of read-only data by crate, from the output of `nm`.
fn by_crate(symbols: &str) -> BTreeMap<String, [u64; 2]> {
    let mut crates: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for line in symbols.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, bytes, kind, name] = words[..] else {
            continue;
        };
        let at = match kind {
            "t" | "T" | "w" | "W" | "i" => 0,
            "r" | "R" | "d" | "D" | "v" | "V" => 1,
            _ => continue,
        };
        if let Ok(bytes) = bytes.parse::<u64>() {
            crates.entry(owner(name).to_owned()).or_default()[at] += bytes;
        }
    }
    crates
}

/// Returns the crate of a mangled name: that of the type with the function, else that of the
/// function. A generic function counts for the crate that defines it.
fn owner(symbol: &str) -> &str {
    const C: &str = "C and assembly";
    let Some(rest) = symbol.strip_prefix("_ZN") else {
        return C;
    };
    if let Some((_, dropped)) = symbol.split_once("drop_in_place$LT$") {
        return of_type(dropped).unwrap_or("core");
    }
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (length, rest) = rest.split_at(digits);
    let Some(first) = length.parse().ok().and_then(|length: usize| rest.get(..length)) else {
        return C;
    };
    match first
        .split_once("$LT$")
        .filter(|(before, _)| before.is_empty() || *before == "_")
    {
        None => first,
        Some((_, implementation)) => {
            let of_trait = || of_type(implementation.split_once("$u20$as$u20$")?.1);
            of_type(implementation).or_else(of_trait).unwrap_or("core")
        }
    }
}

/// Returns the crate of a type in a mangled name; `None` for a parameter or a built-in type.
fn of_type(mut text: &str) -> Option<&str> {
    for mark in [
        "$LP$",
        "$u5b$",
        "$RF$",
        "$BP$",
        "mut$u20$",
        "const$u20$",
        "dyn$u20$",
        "$LT$",
    ] {
        text = text.strip_prefix(mark).unwrap_or(text);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    text[end..].starts_with("..").then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_belongs_to_the_crate_of_its_type() {
        for (symbol, wanted) in [
            ("_ZN5tokio7runtime5spawn17h0123456789abcdefE", "tokio"),
            (
                "_ZN54_$LT$plan..fleet..Pair$u20$as$u20$core..fmt..Debug$GT$3fmt17h0E",
                "plan",
            ),
            ("_ZN42_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0E", "core"),
            (
                "_ZN4core3ptr55drop_in_place$LT$alloc..vec..Vec$LT$u8$GT$$GT$17h0E",
                "alloc",
            ),
            ("mi_malloc", "C and assembly"),
        ] {
            assert_eq!(owner(symbol), wanted, "{symbol}");
        }
    }

    #[test]
    fn small_sections_and_those_that_are_not_loaded_are_left_out() {
        let text = "x  :\nsection   size   addr\n.text   30000000   4096\n.got   100   8192\n.comment   200000   0\n";
        assert_eq!(sections(text), [(".text", 30_000_000)]);
    }
}
