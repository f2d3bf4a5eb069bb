//! Expired bootstrap tokens are deleted.

use std::sync::Arc;
use std::time::Duration;

use api::bootstrap_token::BootstrapToken;
use controllers::{Options, Signer};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::Cluster;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

fn token(bits: u8) -> BootstrapToken {
    BootstrapToken::random([bits; 22])
}

fn path(token: &BootstrapToken) -> String {
    format!("{SECRETS}/{}", token.secret_name())
}

/// Tokens are cleaned only where certificates are issued.
async fn cluster() -> Cluster {
    let signer = Signer {
        longest: Duration::from_secs(3600),
        sign: Arc::new(|_, _, _, _| Err("nobody asks".to_owned())),
    };
    let options = Options {
        signer: Some(signer),
        ..Options::default()
    };
    Cluster::start_with(0, options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_goes_and_one_that_is_good_stays() {
    let cluster = cluster().await;
    let now = Timestamp::now();
    let (past, soon, later, for_ever) = (token(0), token(1), token(2), token(3));
    let ends = [
        (&for_ever, None),
        (&later, Some(now + SignedDuration::from_hours(1))),
        (&soon, Some(now + SignedDuration::from_secs(1))),
        (&past, Some(now - SignedDuration::from_secs(1))),
    ];
    for (token, ends) in ends {
        cluster.create(SECRETS, token.to_secret(ends, "")).await;
    }
    for ended in [&past, &soon] {
        cluster
            .until("the token is gone", || async {
                cluster.get(&path(ended)).await.is_none().then_some(())
            })
            .await;
    }
    for good in [&later, &for_ever] {
        assert!(cluster.get(&path(good)).await.is_some(), "{good:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_ended_early_goes_then() {
    let cluster = cluster().await;
    let now = Timestamp::now();
    let token = token(4);
    let long = token.to_secret(Some(now + SignedDuration::from_hours(24)), "");
    cluster.create(SECRETS, long).await;
    let short = token.to_secret(Some(now), "");
    cluster
        .merge(
            &path(&token),
            json!({"data": {"expiration": short["data"]["expiration"]}}),
        )
        .await;
    cluster
        .until("the token is gone", || async {
            cluster.get(&path(&token)).await.is_none().then_some(())
        })
        .await;
    cluster.stop().await;
}
