//! docs/join.md, followed step by step on machines with a firewall that lets through what the page says and nothing else.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use testkit::topology::{Machine, Program, Topology};
use testkit::{Client, Pod, busybox, eventually, get, is_root, skip, wait_for};

use crate::{PAGE, PORT, SERVE, binary, page};

/// The server's address on the page.
const ADDRESS: &str = "10.0.0.10";
/// Where the page has the token and the units: a machine has no `/etc` of its own, but a `/run`.
const ETC: (&str, &str) = ("/etc/", "/run/etc/");
/// The folder of the binary on the page.
const BIN: &str = "/usr/local/bin";
/// What an agent ends with whose Node was deleted.
const LEFT: i32 = 3;

/// The page, with a machine's address in the place of its server's.
struct JoinPage(String);

impl JoinPage {
    fn read(address: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/join.md");
        let text = fs::read_to_string(&path).context("read the page")?;
        Ok(Self(text.replace(ADDRESS, address).replace(ETC.0, ETC.1)))
    }

    /// The indented block with this line.
    fn block(&self, with: &str) -> Result<String> {
        let mut block = String::new();
        for line in self.0.lines() {
            match line.strip_prefix("    ") {
                Some(line) => {
                    block.push_str(line);
                    block.push('\n');
                }
                None if line.is_empty() && !block.is_empty() => block.push('\n'),
                None if block.lines().any(|line| line == with) => return Ok(block),
                None => block.clear(),
            }
        }
        bail!("the page has no block with {with:?}")
    }

    /// The line that begins so, without what a comment adds.
    fn command(&self, start: &str) -> Result<Vec<String>> {
        let line = self
            .0
            .lines()
            .map(str::trim_start)
            .find(|line| line.starts_with(start));
        let line = line.with_context(|| format!("the page has no line that begins with {start:?}"))?;
        let line = line.split("  #").next().unwrap_or(line);
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }

    fn unit(&self, of: &str) -> Result<String> {
        self.block(&format!("Description=Everynode {of}"))
    }
}

/// The value of a setting of a unit.
fn setting<'a>(unit: &'a str, name: &str) -> Result<&'a str> {
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.with_context(|| format!("the unit says no {name}"))
}

fn ok(machine: &Machine, words: &[&str]) -> Result<String> {
    let said = machine.run(words);
    ensure!(
        said.success,
        "{} on {}: {}{}",
        words.join(" "),
        machine.name(),
        said.stdout,
        said.stderr
    );
    Ok(said.stdout)
}

/// Words for the administrator's client on the server's own machine, which finds its kubeconfig by itself.
fn as_administrator<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let alone = ["env", "-u", "KUBECONFIG", "HOME=/run", "/usr/local/bin/everynode"];
    [&alone, words].concat()
}

fn shell(machine: &Machine, script: &str) -> Result<String> {
    ok(machine, &["sh", "-ec", script])
}

/// A machine with the binary in its own `/usr/local/bin`, behind the firewall of the page.
fn machine(topology: &Topology, name: &str, firewall: &str) -> Result<Machine> {
    let machine = topology.machine(name)?;
    let script = format!(
        "mkdir -p /var/lib/bin /run/etc/everynode /run/etc/systemd/system; mount --bind /var/lib/bin {BIN}
         install --strip {} {BIN}/everynode",
        binary().display()
    );
    shell(&machine, &script)?;
    let rules = machine.file("/var/lib/firewall.nft");
    fs::write(&rules, firewall).context("write the firewall")?;
    ok(&machine, &["nft", "-f", "/var/lib/firewall.nft"])?;
    Ok(machine)
}

/// Has systemd judge a unit, and starts what it starts.
fn start(machine: &Machine, name: &str, unit: &str) -> Result<Program> {
    let file = format!("/var/lib/{name}.service");
    fs::write(machine.file(&file), unit).context("write the unit")?;
    if Path::new("/usr/bin/systemd-analyze").exists() {
        let judged = machine.run(&["systemd-analyze", "verify", "--man=no", &file]);
        let faults: Vec<&str> = judged.stderr.lines().filter(|line| line.contains(name)).collect();
        ensure!(judged.success && faults.is_empty(), "{}", judged.stderr);
    } else {
        skip("Debian's systemd is not here to judge the unit");
    }
    let words: Vec<&str> = setting(unit, "ExecStart")?.split_whitespace().collect();
    machine.start(name, &words)
}

/// The pods of the page's daemon on these nodes, once they are ready.
fn running(client: &Client, nodes: &[&str]) -> Result<Vec<Pod>> {
    let list = || client.json(&["get", "pods", "-l", "app=page", "-o", "json"]);
    wait_for(&format!("pods on {nodes:?}"), || {
        let pods = Pod::all(&list());
        let ready = pods.keys().map(String::as_str).eq(nodes.iter().copied());
        Ok(match ready {
            true => Ok(pods.into_values().collect()),
            false => Err(client.run(&["get", "pods,nodes", "-o", "wide"]).stdout),
        })
    })
}

#[test]
fn machines_join_are_upgraded_and_leave_as_the_page_says_behind_its_firewall() -> Result<()> {
    if !is_root() {
        skip("machines need root");
        return Ok(());
    }
    let topology = Topology::new()?;
    let firewall = JoinPage::read("")?.block("table inet firewall {")?;
    let first = machine(&topology, "first", &firewall)?;
    let page_of = JoinPage::read(&first.address().to_string())?;
    let (unit, server_unit) = (page_of.unit("agent")?, page_of.unit("server")?);
    ensure!(
        setting(&unit, "RestartPreventExitStatus")? == LEFT.to_string()
            && setting(&unit, "KillMode")? == "process"
    );

    // The server as a service, and an agent beside it: their daemons outlive both.
    let mut server = start(&first, "everynode-server", &server_unit)?;
    let everynode = format!("{BIN}/everynode");
    let answers = || {
        let asked = as_administrator(&["get", "--raw", "/readyz"]);
        Ok(first.run(&asked).success)
    };
    eventually("the server to answer", answers)?;
    // The administrator's kubeconfig is for the server's own machine; the host reaches it by its address.
    let text = fs::read_to_string(first.file("/var/lib/everynode/admin.kubeconfig"))
        .context("read the kubeconfig")?;
    let kubeconfig = topology.folder().join("kubeconfig");
    let text = text.replace("127.0.0.1", &first.address().to_string());
    fs::write(&kubeconfig, text).context("write the kubeconfig")?;
    let client = Client::new(binary(), &kubeconfig);
    let join = ok(&first, &as_administrator(&["token", "create"]))?;
    let said = join
        .lines()
        .find(|line| line.contains("everynode agent --server"));
    let said = said.context(join.clone())?.trim();
    let told = page_of.command("everynode agent --server")?.join(" ");
    let shape = |line: &str| {
        let end = line.find("--token ").unwrap_or(line.len());
        line[..end].trim_start_matches("sudo ").to_owned()
    };
    assert_eq!(shape(said), shape(&told), "the page shows what is printed");

    let token = ok(&first, &as_administrator(&["token", "create", "--quiet"]))?;
    let images = topology.folder().to_owned();
    let image = busybox(&images, PAGE, &["sh", "-c", SERVE])?;
    let second = machine(&topology, "second", &firewall)?;
    let beside = unit.replace(
        " --token-file",
        " --data-dir /var/lib/everynode-agent --token-file",
    );
    let mut agents = Vec::new();
    for (machine, unit, data) in [
        (&first, &beside, "/var/lib/everynode-agent"),
        (&second, &unit, "/var/lib/everynode"),
    ] {
        let archive = image.display().to_string();
        ok(
            machine,
            &[&everynode, "image", "import", &archive, "--data-dir", data],
        )?;
        shell(
            machine,
            &format!("echo '{}' > /run/etc/everynode/token", token.trim()),
        )?;
        agents.push(start(machine, "everynode-agent", unit)?);
    }
    let manifest = page(|_| {}).to_string();
    let made = client.run_with_input(&["create", "-f", "-"], &manifest);
    ensure!(made.success, "{}", made.stderr);
    let nodes = ["first", "second"];
    let before = running(&client, &nodes)?;

    // Only the named ports are open, and everything goes through them.
    for (machine, pod) in [&first, &second].into_iter().zip(&before) {
        let at_node = get(SocketAddr::from((machine.address(), PORT)), "/")?;
        assert_eq!(at_node.trim(), pod.name, "a daemon at its node's address");
        let said = client.ok(&["exec", &pod.name, "--", "cat", "/tmp/index.html"]);
        assert_eq!(
            said.trim(),
            pod.name,
            "what a node is asked for comes over its own connection"
        );
        client.ok(&["logs", &pod.name]);
        for other in &before {
            let url = format!("http://{}:8080/", other.address);
            let answer = client.ok(&[
                "exec", &pod.name, "--", "timeout", "5", "wget", "-q", "-O", "-", &url,
            ]);
            assert_eq!(answer.trim(), other.name, "pods reach pods");
        }
        let names = client.ok(&[
            "exec",
            &pod.name,
            "--",
            "nslookup",
            "kubernetes.default.svc.cluster.local",
        ]);
        assert!(
            names.contains("10.96.0.1"),
            "pods ask their node for names: {names}"
        );
    }
    let _closed = second.start(
        "closed",
        &["busybox", "httpd", "-f", "-p", "9999", "-h", "/var/lib"],
    )?;
    eventually("a server at a port that is closed", || {
        let asked = [
            "busybox",
            "wget",
            "-q",
            "-O",
            "/dev/null",
            "http://127.0.0.1:9999/firewall.nft",
        ];
        Ok(second.run(&asked).success)
    })?;
    let refused = get(SocketAddr::from((second.address(), 9999)), "/firewall.nft");
    assert!(refused.is_err(), "the firewall stands: {refused:?}");

    // A new binary in the place of the old one; the token's file is not needed any more.
    let upgrade = page_of.command("install everynode.new")?;
    for (machine, agent) in [&first, &second].into_iter().zip(&mut agents) {
        shell(machine, "rm /run/etc/everynode/token")?;
        let copy = format!(
            "cp {BIN}/everynode /var/lib/everynode.new; cd /var/lib; {}",
            upgrade.join(" ")
        );
        shell(machine, &copy)?;
        agent.stop()?;
    }
    server.stop()?;
    let _server = start(&first, "everynode-server", &server_unit)?;
    eventually("the server to answer", answers)?;
    agents = vec![
        start(&first, "everynode-agent", &beside)?,
        start(&second, "everynode-agent", &unit)?,
    ];
    // The agents have the pods again: each of them is asked.
    for pod in &before {
        eventually("the agent to be back", || {
            Ok(client.run(&["exec", &pod.name, "--", "true"]).success)
        })?;
    }
    let after = running(&client, &nodes)?;
    assert_eq!(after, before, "no pod was replaced, no container started again");

    // One leaves.
    for line in ["everynode drain", "everynode delete node"] {
        let words = page_of.command(line)?.join(" ").replace("NAME", "second");
        let words: Vec<&str> = words.split_whitespace().skip(1).collect();
        client.ok(&words);
    }
    let mut gone = agents.pop().context("the second agent")?;
    let status = wait_for("the agent to leave", || {
        Ok(gone.ended()?.ok_or_else(|| gone.log()))
    })?;
    assert_eq!(status.code(), Some(LEFT), "{}", gone.log());
    running(&client, &["first"])?;
    ok(&second, &[&everynode, "agent", "--clean-up"])?;
    assert!(!second.file("/var/lib/everynode").exists());
    let left = ok(&second, &["nft", "list", "tables"])?;
    assert_eq!(left, "table inet firewall\n", "nothing of the agent is left");
    Ok(())
}
