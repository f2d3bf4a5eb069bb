//! Results of plugins for ADD.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::PodAddress;

/// Returns the addresses of the pod's link in the order of the result, at most one of each family.
/// A result refers to the link of an address by its index in `interfaces`. Before version 0.3 there
/// was one address of each family.
pub(super) fn addresses(answer: &Value, link: &str) -> Result<Vec<PodAddress>, String> {
    let list = answer["ips"].as_array().into_iter().flatten();
    let of_link = list.filter(|one| match one["interface"].as_u64() {
        Some(number) => is_pods(
            &answer["interfaces"][usize::try_from(number).unwrap_or(usize::MAX)],
            link,
        ),
        None => true,
    });
    let listed = of_link.map(|one| (&one["address"], &one["gateway"]));
    let former = ["ip4", "ip6"].map(|family| (&answer[family]["ip"], &answer[family]["gateway"]));
    let former = former.into_iter().filter(|(address, _)| !address.is_null());
    let mut addresses: Vec<PodAddress> = Vec::new();
    for (address, gateway) in listed.chain(former) {
        let text = address.as_str().unwrap_or_default();
        let net: IpNet = text
            .parse()
            .map_err(|_| format!("the plugins answered the address {address}"))?;
        let gateway: Option<IpAddr> = gateway.as_str().and_then(|gateway| gateway.parse().ok());
        let known = addresses
            .iter()
            .any(|other| other.address.is_ipv4() == net.addr().is_ipv4());
        if !known {
            addresses.push(PodAddress {
                address: net.addr(),
                gateway,
                prefix: net.prefix_len(),
            });
        }
    }
    match addresses.is_empty() {
        true => Err("failed to find network info: the plugins gave the pod no address".into()),
        false => Ok(addresses),
    }
}

/// Returns whether an interface belongs to the pod and not to the machine.
fn is_pods(interface: &Value, link: &str) -> bool {
    let in_sandbox = interface["sandbox"]
        .as_str()
        .is_some_and(|sandbox| !sandbox.is_empty());
    in_sandbox && interface["name"] == link
}
