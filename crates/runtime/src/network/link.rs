//! Links, addresses and routes over netlink. The library is async: each call runs it on a small
//! runtime in its own thread, which may enter another network namespace.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;

use futures::TryStreamExt;
use nix::net::if_::{if_indextoname, if_nametoindex};
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::Context as _;
use crate::{Error, PodNetwork, Result, kernel};

/// Name of the pod's end of the veth.
const POD_LINK: &str = "eth0";

/// Creates the bridge with exactly these addresses, or corrects an existing one.
pub(super) fn ensure_bridge(name: &str, addresses: &[(IpAddr, u8)]) -> Result<()> {
    let name = name.to_owned();
    let addresses = addresses.to_vec();
    netlink(None, async move |handle| {
        if if_nametoindex(name.as_str()).is_err() {
            create(&handle, LinkBridge::new(&name).build(), "bridge")
                .await
                .context(|| format!("create bridge {name}"))?;
        }
        let index = index_of(&name)?;
        for (address, prefix) in &addresses {
            add_address(&handle, index, *address, *prefix)
                .await
                .context(|| format!("give bridge {name} the address {address}"))?;
        }
        remove_other_addresses(&handle, index, &addresses)
            .await
            .context(|| format!("take other addresses from bridge {name}"))?;
        handle
            .link()
            .set(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .context(|| format!("set bridge {name} up"))
    })
}

/// Creates a link whose kernel module has the same name as its kind. The kernel loads the module by
/// itself if it can; otherwise the error names the missing module.
pub(super) async fn create(handle: &Handle, link: LinkMessage, module: &str) -> Result<()> {
    let attempt = async || handle.link().add(link.clone()).execute().await;
    match attempt().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EOPNOTSUPP => {
            let kind = format!("links of the kind {module}");
            kernel::load_module(module).map_err(|why| kernel::missing(module, &kind, &why))?;
            attempt().await
        }
        answer => answer,
    }
    .map_err(|error| Error::machine(error.to_string()))
}

/// Adds an address or corrects it. IPv6 addresses are used immediately without duplicate address
/// detection, because we assign them.
pub(super) async fn add_address(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    prefix: u8,
) -> std::result::Result<(), rtnetlink::Error> {
    let mut request = handle.address().add(index, address, prefix).replace();
    if address.is_ipv6() {
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    request.execute().await
}

/// Removes all other addresses of a link, except those that the kernel assigns by itself.
pub(super) async fn remove_other_addresses(
    handle: &Handle,
    index: u32,
    keep: &[(IpAddr, u8)],
) -> std::result::Result<(), rtnetlink::Error> {
    let all: Vec<AddressMessage> = handle
        .address()
        .get()
        .set_link_index_filter(index)
        .execute()
        .try_collect()
        .await?;
    for message in all {
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let own = |address: &IpAddr| keep.contains(&(*address, message.header.prefix_len));
        let by_itself = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if address.is_some_and(|address| !own(&address) && !by_itself(&address)) {
            handle.address().del(message).execute().await?;
        }
    }
    Ok(())
}

/// Creates a veth from the bridge into the network namespace of a process, and configures the pod's
/// end.
pub(super) fn attach(cable: &str, bridge: &str, network: &PodNetwork, pid: u32) -> Result<()> {
    let bridge_index = index_of(bridge)?;
    let name = cable.to_owned();
    let mtu = network.mtu;
    netlink(None, async move |handle| {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(POD_LINK)
            .setns_by_pid(pid);
        let mut link = LinkVeth::new(&name, POD_LINK).controller(bridge_index).up();
        if let Some(mtu) = mtu {
            peer = peer.mtu(mtu);
            link = link.mtu(mtu);
        }
        let link = link
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        create(&handle, link, "veth")
            .await
            .context(|| format!("create link {name}"))
    })?;
    // If the machine filters bridged packets, translated packets are switched here: packets of a
    // pod to itself leave by the port that they came from.
    let hairpin = format!("/sys/class/net/{cable}/brport/hairpin_mode");
    std::fs::write(&hairpin, "1").context(|| format!("set {hairpin}"))?;
    let namespace = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&namespace).context(|| format!("open {namespace}"))?;
    let network = network.clone();
    netlink(Some(namespace), async move |handle| {
        set_up_pod(&handle, &network).await
    })
}

/// Sets the loopback interface up in the network namespace of a process.
pub(super) fn set_loopback_up_of(pid: u32) -> Result<()> {
    let namespace = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&namespace).context(|| format!("open {namespace}"))?;
    netlink(Some(namespace), async |handle| set_loopback_up(&handle).await)
}

/// Returns the name of the device with the machine's route to an address.
pub(super) fn device_to(address: Ipv4Addr) -> Result<String> {
    netlink(None, async move |handle| {
        let ask = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .build();
        let mut answers = std::pin::pin!(handle.route().get(ask).execute());
        let route = answers
            .try_next()
            .await
            .context(|| format!("find the way to {address}"))?;
        let mut attributes = route.into_iter().flat_map(|route| route.attributes);
        let index = attributes.find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(index),
            _ => None,
        });
        let index = index.ok_or_else(|| Error::machine(format!("there is no way to {address}")))?;
        let name = if_indextoname(index).context(|| format!("find the device of the way to {address}"))?;
        Ok(name.to_string_lossy().into_owned())
    })
}

async fn set_loopback_up(handle: &Handle) -> Result<()> {
    let loopback = index_of("lo")?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(loopback).up().build())
        .execute()
        .await
        .context(|| "set the pod's loopback up")
}

async fn set_up_pod(handle: &Handle, network: &PodNetwork) -> Result<()> {
    set_loopback_up(handle).await?;
    let index = index_of(POD_LINK)?;
    if network.addresses.iter().any(|given| given.address.is_ipv6()) {
        // The machine may have disabled IPv6 for new links. This thread sees the pod's settings.
        super::write_sysctl(&format!("net/ipv6/conf/{POD_LINK}/disable_ipv6"), "0")?;
    }
    for given in &network.addresses {
        // The pod is alone in its network. It reaches other pods through the machine too, whose
        // rules see both directions.
        let alone = if given.address.is_ipv4() { 32 } else { 128 };
        add_address(handle, index, given.address, alone)
            .await
            .context(|| format!("give the pod the address {}", given.address))?;
    }
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .context(|| "set the pod's link up")?;
    for gateway in network.addresses.iter().filter_map(|given| given.gateway) {
        let routes = match gateway {
            IpAddr::V4(gateway) => {
                let route = || RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index);
                let near = route().destination_prefix(gateway, 32).scope(RouteScope::Link);
                [near.build(), route().gateway(gateway).build()]
            }
            IpAddr::V6(gateway) => {
                let route = || RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index);
                [
                    route().destination_prefix(gateway, 128).build(),
                    route().gateway(gateway).build(),
                ]
            }
        };
        for route in routes {
            handle
                .route()
                .add(route)
                .execute()
                .await
                .context(|| format!("route the pod through {gateway}"))?;
        }
    }
    Ok(())
}

/// Removes a link. Succeeds if it does not exist.
pub(super) fn remove(name: &str) -> Result<()> {
    if if_nametoindex(name).is_err() {
        return Ok(());
    }
    let name = name.to_owned();
    netlink(None, async move |handle| remove_with(&handle, &name).await)
}

/// Removes a link, as part of other requests. Succeeds if it does not exist.
pub(super) async fn remove_with(handle: &Handle, name: &str) -> Result<()> {
    let Ok(index) = if_nametoindex(name) else {
        return Ok(());
    };
    match handle.link().del(index).execute().await {
        Ok(()) => Ok(()),
        // The link was removed with its namespace.
        Err(_) if if_nametoindex(name).is_err() => Ok(()),
        Err(error) => Err(Error::machine(format!("remove link {name}: {error}"))),
    }
}

pub(super) fn index_of(name: &str) -> Result<u32> {
    if_nametoindex(name).context(|| format!("find link {name}"))
}

/// Runs netlink requests on a thread, in another network namespace if one is given. Namespaces are
/// per thread.
pub(super) fn netlink<F, T>(namespace: Option<File>, requests: F) -> Result<T>
where
    F: AsyncFnOnce(Handle) -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    let work = move || -> Result<T> {
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
