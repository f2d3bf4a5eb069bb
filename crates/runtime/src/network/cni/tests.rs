use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

/// A plugin that writes its input to a file named after itself and the operation, and prints the
/// result that its configuration contains.
const PLUGIN: &str = r#"#!/bin/sh
folder=$(dirname "$0")
config=$(cat)
name=$(basename "$0")
echo "$name $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME ${CNI_NETNS:-none} $CNI_ARGS" >> "$folder/calls"
echo "$config" > "$folder/$name.$CNI_COMMAND.json"
test ! -e "$folder/$name.$CNI_COMMAND.fails" || { cat "$folder/$name.$CNI_COMMAND.fails"; exit 1; }
test "$CNI_COMMAND" != ADD || cat "$folder/$name.answer"
"#;

struct Machine {
    folder: TempDir,
    cni: Cni,
}

impl Machine {
    /// Creates a machine with the plugins `one` and `two`, and a list of both.
    fn new(version: &str) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let cni = Cni {
            conf_dir: folder.path().join("net.d"),
            bin_dirs: vec!["/nonexistent".into(), folder.path().to_owned()],
        };
        fs::create_dir(&cni.conf_dir).unwrap();
        let machine = Machine { folder, cni };
        for plugin in ["one", "two"] {
            machine.write(plugin, PLUGIN);
            let program = machine.folder.path().join(plugin);
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine.write(
            "net.d/10-pods.conflist",
            &json!({"cniVersion": version, "name": "pods", "plugins": [
                {"type": "one", "ipam": {"type": "host-local"}, "capabilities": {"ipRanges": true}},
                {"type": "two", "capabilities": {"portMappings": true, "bandwidth": false}},
            ]})
            .to_string(),
        );
        machine.write(
            "one.answer",
            r#"{"ips": [{"address": "10.9.0.2/24"}], "from": "one"}"#,
        );
        machine.write(
            "two.answer",
            r#"{"interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/x"}],
                "ips": [{"address": "10.9.0.1/24", "interface": 0},
                        {"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1},
                        {"address": "fd09::2/64", "interface": 1},
                        {"address": "10.9.0.3/24", "interface": 1}]}"#,
        );
        machine
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// Returns the operations of the last call.
    fn last_call(&self) -> String {
        self.read("calls").lines().last().unwrap().to_owned()
    }

    fn told(&self, file: &str) -> Value {
        serde_json::from_str(&self.read(file)).unwrap()
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("cni.json")
    }

    fn add(&self) -> Result<Added> {
        let args = PluginArgs {
            arguments: vec![("K8S_POD_NAME".into(), "web".into()), ("A".into(), "b".into())],
            capabilities: [("bandwidth".to_owned(), json!({"egressRate": 1}))].into(),
        };
        let newcomer = Newcomer {
            id: "pod-1",
            args: &args,
            host_ports: &[HostPort {
                protocol: Protocol::Udp,
                host_ip: Some("192.0.2.7".parse().unwrap()),
                host_port: 53,
                container_port: 5353,
            }],
            ranges: &["10.9.0.0/24".parse().unwrap(), "fd09::/64".parse().unwrap()],
            pid: std::process::id(),
        };
        self.cni.add(&newcomer, &self.record())
    }
}

fn address(address: &str, gateway: Option<&str>, prefix: u8) -> PodAddress {
    PodAddress {
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        prefix,
    }
}

#[test]
fn a_pod_is_added_along_the_list_and_deleted_against_it() {
    let machine = Machine::new("1.0.0");
    let added = machine.add().unwrap();
    assert_eq!(
        added.addresses,
        [
            address("10.9.0.2", Some("10.9.0.1"), 24),
            address("fd09::2", None, 64)
        ]
    );
    assert!(added.leads_ports);
    let one = machine.told("one.ADD.json");
    assert_eq!(
        (&one["name"], &one["cniVersion"]),
        (&json!("pods"), &json!("1.0.0"))
    );
    assert_eq!(one["ipam"]["type"], "host-local");
    assert_eq!(
        one["runtimeConfig"],
        json!({"ipRanges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]})
    );
    assert_eq!(one.get("prevResult"), None);
    let two = machine.told("two.ADD.json");
    assert_eq!(
        two["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.7"}]})
    );
    assert_eq!(two["prevResult"]["from"], "one");

    // The installed list differs from the one that the pod was added with.
    fs::remove_file(machine.cni.conf_dir.join("10-pods.conflist")).unwrap();
    let namespace = File::open("/proc/self/ns/net").unwrap();
    delete(&machine.record(), Some(&namespace)).unwrap();
    let two = machine.told("two.DEL.json");
    assert_eq!(
        two["prevResult"],
        machine.told("two.answer"),
        "the last plugin's answer"
    );
    assert_eq!(machine.told("one.DEL.json")["prevResult"], two["prevResult"]);
    let calls = machine.read("calls");
    let calls: Vec<&str> = calls.lines().collect();
    let pid = std::process::id();
    assert_eq!(
        calls[0],
        format!("one ADD pod-1 eth0 /proc/{pid}/ns/net K8S_POD_NAME=web;A=b")
    );
    assert!(calls[1].starts_with("two ADD"), "{calls:?}");
    assert!(
        calls[2].starts_with(&format!("two DEL pod-1 eth0 /proc/{pid}/fd/")),
        "{calls:?}"
    );
    assert!(calls[3].starts_with("one DEL"), "{calls:?}");
}

#[test]
fn what_was_added_halfway_is_deleted_and_may_be_deleted_again() {
    let machine = Machine::new("1.0.0");
    machine.write(
        "two.ADD.fails",
        r#"{"code": 7, "msg": "no bridge", "details": "br0 is missing"}"#,
    );
    let error = machine.add().err().unwrap();
    assert_eq!(
        error.message,
        "failed to setup network for sandbox \"pod-1\": plugin type=\"two\" failed (add): no bridge; br0 is missing"
    );
    machine.write("one.DEL.fails", "not an object");
    let error = delete(&machine.record(), None).unwrap_err();
    assert!(error.message.starts_with(
        "failed to destroy network for sandbox \"pod-1\": plugin type=\"one\" failed (delete): "
    ));
    assert!(error.message.ends_with("not an object"), "{error}");
    fs::remove_file(machine.folder.path().join("one.DEL.fails")).unwrap();
    delete(&machine.record(), None).unwrap();
    delete(&machine.record(), None).unwrap();
    assert!(machine.last_call().starts_with("one DEL pod-1 eth0 none"));
    assert_eq!(machine.told("two.DEL.json").get("prevResult"), None);
    delete(&machine.folder.path().join("nothing"), None).unwrap();
}

#[test]
fn a_mended_configuration_deletes_what_the_mistaken_one_could_not_add() {
    let machine = Machine::new("1.0.0");
    let mistaken =
        json!({"name": "pods", "cniVersion": "1.0.0", "plugins": [{"type": "one"}, {"type": "missing"}]});
    machine.write("net.d/05-first.conflist", &mistaken.to_string());
    machine.add().err().unwrap();
    delete(&machine.record(), None).unwrap_err();
    fs::remove_file(machine.cni.conf_dir.join("05-first.conflist")).unwrap();
    delete(&machine.record(), None).unwrap();
    assert!(machine.last_call().starts_with("one DEL"));
}

#[test]
fn plugins_never_get_another_namespace_than_the_pods() {
    let machine = Machine::new("1.0.0");
    machine.add().unwrap();
    let other = File::open("/proc/self/ns/uts").unwrap();
    delete(&machine.record(), Some(&other)).unwrap();
    let calls = machine.read("calls");
    assert!(
        calls
            .lines()
            .last()
            .unwrap()
            .starts_with("one DEL pod-1 eth0 none"),
        "{calls}"
    );
}

#[test]
fn a_plugin_that_is_not_installed_is_named_with_the_folders_that_were_searched() {
    let machine = Machine::new("1.0.0");
    fs::remove_file(machine.folder.path().join("one")).unwrap();
    let message = machine.add().err().unwrap().message;
    let folders = format!("[/nonexistent {}]", machine.folder.path().display());
    assert!(
        message.ends_with(&format!("failed to find plugin \"one\" in path {folders}")),
        "{message}"
    );
}

#[test]
fn the_first_configuration_by_name_is_the_network() {
    let machine = Machine::new("1.0.0");
    machine.write("net.d/05-old.conf", r#"{"name": "old", "type": "one"}"#);
    machine.write("net.d/00-notes.txt", "no configuration");
    let list = machine.cni.list().unwrap();
    assert_eq!((&*list.name, list.plugins.len()), ("old", 1));
    assert!(
        !list.deletes_by_answer(),
        "it names no version, so it is of the first"
    );
    machine.write("net.d/01-bad.conflist", "{");
    let error = machine.cni.check().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NetworkNotReady);
    let start = format!(
        "cni plugin not initialized: failed to load CNI config file {}/01-bad.conflist: ",
        machine.cni.conf_dir.display()
    );
    assert!(error.message.starts_with(&start), "{error}");
}

#[test]
fn without_a_configuration_the_network_is_not_initialized() {
    let machine = Machine::new("1.0.0");
    fs::remove_dir_all(&machine.cni.conf_dir).unwrap();
    let error = machine.cni.check().unwrap_err();
    let folder = machine.cni.conf_dir.display();
    assert_eq!(
        error.message,
        format!("cni plugin not initialized: no network config found in {folder}")
    );
}

#[test]
fn mistakes_in_a_configuration_are_named() {
    for (file, why) in [
        (json!({"name": "a"}), "missing 'plugins'"),
        (
            json!({"name": "a", "plugins": []}),
            "CNI config list a has no networks",
        ),
        (json!({"plugins": [{"type": "one"}]}), "missing network name"),
        (
            json!({"name": "a/b", "plugins": [{"type": "one"}]}),
            "invalid characters found in network name",
        ),
        (json!({"name": "a", "plugins": [{}]}), "a plugin has no 'type'"),
        (
            json!({"name": "a", "plugins": [{"type": "../sh"}]}),
            "invalid plugin name: ../sh",
        ),
        (
            json!({"name": "a", "cniVersion": "9.0.0", "plugins": [{"type": "one"}]}),
            "unsupported CNI version 9.0.0",
        ),
    ] {
        let machine = Machine::new("1.0.0");
        machine.write("net.d/10-pods.conflist", &file.to_string());
        let error = machine.cni.check().unwrap_err();
        assert!(error.message.contains(why), "{error}");
    }
}

#[test]
fn the_newest_version_that_both_speak_is_spoken() {
    let machine = Machine::new("1.0.0");
    let list = json!({"name": "a", "cniVersion": "0.4.0", "cniVersions": ["1.0.0", "1.1.0", "2.0.0"], "plugins": [{"type": "one"}]});
    machine.write("net.d/10-pods.conflist", &list.to_string());
    let list = machine.cni.list().unwrap();
    assert_eq!(
        list.plugin(&list.plugins[0], &Map::new(), None)["cniVersion"],
        "1.1.0"
    );
    assert!(list.has_status() && list.deletes_by_answer());
}

#[test]
fn plugins_of_the_newest_version_say_themselves_whether_they_are_ready() {
    let machine = Machine::new("1.1.0");
    machine.cni.check().unwrap();
    assert!(machine.read("calls").contains("two STATUS"));
    machine.write(
        "two.STATUS.fails",
        r#"{"code": 50, "msg": "the daemon is not there"}"#,
    );
    let error = machine.cni.check().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NetworkNotReady);
    assert_eq!(
        error.message,
        "plugin type=\"two\" failed (status): the daemon is not there"
    );
    let former = Machine::new("1.0.0");
    former.cni.check().unwrap();
    assert_eq!(former.read("calls"), "");
}

#[test]
fn addresses_are_read_as_every_version_says_them() {
    let former = json!({"ip4": {"ip": "10.9.0.2/24", "gateway": "10.9.0.1"}, "ip6": {"ip": "fd09::2/64"}});
    assert_eq!(
        answer::addresses(&former, "eth0"),
        Ok(vec![
            address("10.9.0.2", Some("10.9.0.1"), 24),
            address("fd09::2", None, 64)
        ])
    );
    let between = json!({"ips": [{"version": "4", "address": "10.9.0.2/24", "interface": 0}],
        "interfaces": [{"name": "eth0", "sandbox": "/x"}]});
    assert_eq!(
        answer::addresses(&between, "eth0"),
        Ok(vec![address("10.9.0.2", None, 24)])
    );
    for wrong in [
        json!({}),
        Value::Null,
        json!({"ips": [{"address": "here"}]}),
        json!({"ips": [{"address": "10.9.0.2/24", "interface": 99}]}),
    ] {
        assert!(answer::addresses(&wrong, "eth0").is_err(), "{wrong}");
    }
}
