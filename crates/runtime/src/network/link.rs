//! Links, addresses and routes over netlink. The library is async; each call here drives it on a small runtime of its own thread,
//! which may stand in another network namespace.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::Range;
use crate::error::Context as _;
use crate::{Error, PodNetwork, Result};

/// The pod's end of the cable.
const POD_LINK: &str = "eth0";

/// Makes the bridge with its address, or puts an existing one in order.
pub(super) fn ensure_bridge(name: &str, range: Range) -> Result<()> {
    let name = name.to_owned();
    netlink(None, async move |handle| {
        if if_nametoindex(name.as_str()).is_err() {
            handle
                .link()
                .add(LinkBridge::new(&name).build())
                .execute()
                .await
                .context(|| format!("create bridge {name}"))?;
        }
        let index = index_of(&name)?;
        handle
            .address()
            .add(index, IpAddr::V4(range.gateway()), range.prefix())
            .replace()
            .execute()
            .await
            .context(|| format!("give bridge {name} its address"))?;
        handle
            .link()
            .set(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .context(|| format!("set bridge {name} up"))
    })
}

/// Lays a cable from the bridge into the network namespace of a process and sets up that end.
pub(super) fn attach(cable: &str, bridge: &str, network: &PodNetwork, pid: u32) -> Result<()> {
    let bridge_index = index_of(bridge)?;
    let name = cable.to_owned();
    netlink(None, async move |handle| {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(POD_LINK)
            .setns_by_pid(pid)
            .build();
        let message = LinkVeth::new(&name, POD_LINK)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(bridge_index)
            .up()
            .build();
        handle
            .link()
            .add(message)
            .execute()
            .await
            .context(|| format!("create link {name}"))
    })?;
    let namespace = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&namespace).context(|| format!("open {namespace}"))?;
    let network = *network;
    netlink(Some(namespace), async move |handle| {
        set_up_pod(&handle, &network).await
    })
}

async fn set_up_pod(handle: &Handle, network: &PodNetwork) -> Result<()> {
    let loopback = index_of("lo")?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(loopback).up().build())
        .execute()
        .await
        .context(|| "set the pod's loopback up")?;
    let index = index_of(POD_LINK)?;
    handle
        .address()
        .add(index, network.address, network.prefix)
        .execute()
        .await
        .context(|| format!("give the pod the address {}", network.address))?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .context(|| "set the pod's link up")?;
    let IpAddr::V4(gateway) = network.gateway else {
        return Err(Error::invalid(format!("gateway {} is not IPv4", network.gateway)));
    };
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    handle
        .route()
        .add(route)
        .execute()
        .await
        .context(|| format!("route the pod through {gateway}"))
}

/// Removes a link; fine when there is none.
pub(super) fn remove(name: &str) -> Result<()> {
    let Ok(index) = if_nametoindex(name) else {
        return Ok(());
    };
    let name = name.to_owned();
    netlink(None, async move |handle| {
        match handle.link().del(index).execute().await {
            Ok(()) => Ok(()),
            // It went with its namespace meanwhile.
            Err(_) if if_nametoindex(name.as_str()).is_err() => Ok(()),
            Err(error) => Err(Error::machine(format!("remove link {name}: {error}"))),
        }
    })
}

fn index_of(name: &str) -> Result<u32> {
    if_nametoindex(name).context(|| format!("find link {name}"))
}

/// Runs netlink requests on a thread, in another network namespace if one is given: a thread's namespace is its own.
fn netlink<F>(namespace: Option<File>, requests: F) -> Result<()>
where
    F: AsyncFnOnce(Handle) -> Result<()> + Send + 'static,
{
    let work = move || -> Result<()> {
        if let Some(namespace) = namespace {
            setns(namespace, CloneFlags::CLONE_NEWNET).context(|| "enter the pod's network namespace")?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context(|| "start netlink")?;
        runtime.block_on(async move {
            let (connection, handle, _) = rtnetlink::new_connection().context(|| "open netlink")?;
            let connection = tokio::spawn(connection);
            let done = requests(handle).await;
            connection.abort();
            done
        })
    };
    thread::Builder::new()
        .name("netlink".into())
        .spawn(work)
        .context(|| "start netlink")?
        .join()
        .map_err(|_| Error::machine("netlink requests panicked"))?
}
