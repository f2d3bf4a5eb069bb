//! `everynode token`: manages the tokens by which machines join. The arguments and columns are
//! kubeadm's.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::bootstrap_token::{BootstrapToken, JoinToken, NAME_PREFIX, NAMESPACE, SECRET_TYPE, StoredToken};
use api::certificates::public_key_hash;
use clap::{Args, Subcommand};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::get::print;
use crate::client::cluster_info::ClusterInfo;
use crate::client::connection::{ConnectArgs, JSON, Payload};
use crate::client::duration;
use crate::client::resources::escape;
use crate::client::secret::print_secret;
use crate::client::table::columns;

/// Manage the tokens with which machines join the cluster
#[derive(Args, Debug)]
pub(crate) struct Token {
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(Subcommand, Debug)]
enum TokenVerb {
    Create(Create),
    List(List),
    Delete(Delete),
}

/// Create a token and print the command that joins a machine with it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode token create                                 a token that is good for 24 hours
  everynode token create --ttl 1h --description 'rack 7'
  everynode token create --quiet > token                 the token alone, for --token-file")]
struct Create {
    /// Token to create, in the form abcdef.0123456789abcdef (default: random)
    #[arg(value_name = "TOKEN")]
    token: Option<String>,

    /// Time until the token expires; 0: never
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse)]
    ttl: Duration,

    /// Purpose of the token, shown by `token list`
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,

    /// Print only the token
    #[arg(short, long)]
    quiet: bool,

    /// Print the whole command; this is what is done anyway
    #[arg(long, hide = true)]
    print_join_command: bool,
}

/// List the tokens
#[derive(Args, Debug)]
struct List {}

/// Revoke tokens. Machines that have joined stay in the cluster
#[derive(Args, Debug)]
struct Delete {
    /// Tokens, or their first six characters
    #[arg(value_name = "TOKEN", required = true)]
    tokens: Vec<String>,
}

impl Token {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        match self.verb {
            TokenVerb::Create(create) => create.run(connect).await,
            TokenVerb::List(list) => list.run(connect).await,
            TokenVerb::Delete(delete) => delete.run(connect).await,
        }
    }
}

fn secrets() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets")
}

impl Create {
    async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let token = match &self.token {
            Some(text) => BootstrapToken::parse(text).with_context(|| {
                format!(
                    "the token {text:?} is not of the form abcdef.0123456789abcdef: 6 and 16 of a-z and 0-9"
                )
            })?,
            None => BootstrapToken::random(random()?),
        };
        let ends = match self.ttl {
            Duration::ZERO => None,
            ttl => {
                let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
                Some(
                    Timestamp::now()
                        .checked_add(ttl)
                        .context("--ttl ends after the end of time")?,
                )
            }
        };
        let connection = connect.connect().await?;
        let cluster = ClusterInfo::read(&connection).await?;
        let server = cluster.servers.join(",");
        let hash = public_key_hash(cluster.authority.as_bytes())
            .context("the cluster's authority cannot be read")?;
        let secret = token.to_secret(ends, &self.description);
        let path = format!("{}?fieldManager=everynode-token", secrets());
        let payload = Payload::json(&secret);
        connection
            .request(Method::POST, &path, JSON, Some(payload))
            .await
            .with_context(|| format!("store the token {}", token.id))?;
        cluster.warn_unless_reachable().await;
        let join = JoinToken {
            token,
            authority: hash,
        };
        match self.quiet {
            true => print_secret(&format!("{join}\n")),
            false => print_secret(&format!("everynode agent --server {server} --token {join}\n")),
        }
    }
}

impl List {
    async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let now = Timestamp::now();
        let query = format!("fieldSelector={}", escape(&format!("type={SECRET_TYPE}")));
        let mut rows = connection
            .list(&secrets(), &query, |secret| Ok(row(secret, now)))
            .await?;
        rows.retain(|row| !row.is_empty());
        if rows.is_empty() {
            eprintln!("No tokens found; make one with `everynode token create`.");
            return Ok(());
        }
        let heading = ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"];
        rows.insert(0, heading.map(str::to_owned).to_vec());
        print(columns(&rows, 3).as_bytes())
    }
}

/// Returns a row of the list; empty if the Secret is not a token.
fn row(secret: &Value, now: Timestamp) -> Vec<String> {
    let Some(token) = StoredToken::of_secret(secret) else {
        return Vec::new();
    };
    let (left, ends) = match token.expiry() {
        None => ("<forever>".to_owned(), "<never>".to_owned()),
        Some(ends) if ends <= now => ("<invalid>".to_owned(), token.expiration.clone()),
        Some(ends) => {
            let seconds = ends.duration_since(now).as_secs();
            (api::time::human_duration(seconds), token.expiration.clone())
        }
    };
    let usages = [("authentication", token.authenticates), ("signing", token.signs)];
    let usages: Vec<&str> = usages
        .iter()
        .filter_map(|(usage, has)| has.then_some(*usage))
        .collect();
    let or_none = |text: String| {
        if text.is_empty() {
            "<none>".to_owned()
        } else {
            text
        }
    };
    vec![
        format!("{}.{}", token.id, token.secret),
        left,
        ends,
        or_none(usages.join(",")),
        or_none(token.description),
        or_none(token.groups.join(",")),
    ]
}

impl Delete {
    async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let ids = self
            .tokens
            .iter()
            .map(|text| id(text))
            .collect::<Result<Vec<_>>>()?;
        let connection = connect.connect().await?;
        for id in ids {
            let path = format!("{}/{NAME_PREFIX}{id}", secrets());
            connection
                .request(Method::DELETE, &path, JSON, None)
                .await
                .with_context(|| {
                    format!("revoke the token {id}; `everynode token list` shows those that there are")
                })?;
            print(format!("bootstrap token \"{id}\" deleted\n").as_bytes())?;
        }
        Ok(())
    }
}

/// Returns the id of a token, from the whole token or from the id.
fn id(text: &str) -> Result<String> {
    let token = text.split('@').next().unwrap_or(text);
    if let Some(token) = BootstrapToken::parse(token) {
        return Ok(token.id);
    }
    // The id is valid if it forms a token with any valid secret.
    match BootstrapToken::parse(&format!("{text}.0123456789abcdef")) {
        Some(token) => Ok(token.id),
        None => bail!(
            "{text:?} is no token: give it whole, or its first six characters, as `everynode token list` shows it"
        ),
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .ok()
        .context("the kernel gives no random bytes")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_revoked_by_any_part_that_names_it() {
        for text in [
            "abcdef",
            "abcdef.0123456789abcdef",
            "abcdef.0123456789abcdef@sha256:00",
        ] {
            assert_eq!(id(text).expect(text), "abcdef");
        }
        for text in ["", "abcde", "ABCDEF", "abcdef.", "abcdef.0123"] {
            assert!(id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_says_how_long_a_token_is_good_and_for_what() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").expect("a token");
        let later = now + SignedDuration::from_hours(23);
        let line = row(&token.to_secret(Some(later), "rack 7"), now);
        assert_eq!(
            line,
            [
                "abcdef.0123456789abcdef",
                "23h",
                "2026-01-01T23:00:00Z",
                "authentication",
                "rack 7",
                "system:bootstrappers:kubeadm:default-node-token",
            ]
        );
        let forever = row(&token.to_secret(None, ""), now);
        assert_eq!(&forever[1..3], ["<forever>", "<never>"]);
        let over = row(&token.to_secret(Some(now), ""), now);
        assert_eq!(over[1], "<invalid>");
    }
}
