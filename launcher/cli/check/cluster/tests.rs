use super::*;
use chariot_core::handover;

fn node(name: &str) -> Node {
    Node {
        name: name.into(),
        plugin: Some("1.0".into()),
        launcher: Some("1.0".into()),
        site_file: Some("0123".into()),
        kernel: "6.1".into(),
        user_namespaces: true,
        fuse: true,
        ..Node::default()
    }
}

fn report(nodes: Vec<Node>, asked: &[&str]) -> Report {
    compare(Answers {
        nodes,
        asked: Ok(asked.iter().map(ToString::to_string).collect()),
        ended: None,
    })
}

#[test]
fn nodes_that_say_the_same_share_a_line() {
    let report = report(
        vec![node("n2"), node("n1"), node("n3")],
        &["n1", "n2", "n3"],
    );
    assert!(report.ok && report.same);
    let lines = lines(&report);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("nodes   plugin  launcher  site file  Linux"),
        "{lines:#?}"
    );
    assert!(
        lines[1].starts_with("n[1-3]  1.0     1.0       0123       6.1"),
        "{lines:#?}"
    );
}

#[test]
fn who_lacks_the_plugin_differs_or_says_nothing_is_named() {
    let without = Node {
        plugin: None,
        launcher: None,
        faults: vec!["Slurm has loaded no plugin".into()],
        ..node("n2")
    };
    let report = report(vec![node("n1"), without], &["n1", "n2", "n3"]);
    assert!(!report.ok && !report.same);
    let lines = lines(&report).join("\n");
    for part in [
        "n2     MISSING",
        "n3 did not answer",
        "n2: Slurm has loaded no plugin",
        "the nodes differ",
    ] {
        assert!(lines.contains(part), "{lines}");
    }
}

#[test]
fn another_site_file_is_a_failure_and_another_kernel_a_line_of_its_own() {
    let other = |change: fn(&mut Node)| {
        let mut other = node("n2");
        change(&mut other);
        report(vec![node("n1"), other], &["n1", "n2"])
    };
    assert!(!other(|node| node.site_file = None).ok);
    assert!(!other(|node| node.launcher = Some("1.1".into())).ok);
    let kernels = other(|node| node.kernel = "6.2".into());
    assert!(kernels.ok);
    assert_eq!(lines(&kernels).len(), 3);
}

#[test]
fn names_are_folded_as_slurm_writes_them() {
    for (names, folded_) in [
        (&["n1", "n2", "n3", "n5"][..], "n[1-3,5]"),
        (&["n10", "n9", "n11"], "n[9-11]"),
        (&["a01", "a02", "b03", "login"], "a[01-02],b03,login"),
        (&["n9", "n010", "n011"], "n[9,010-011]"),
        (&["n09", "n10", "n1", "n09"], "n[1,09-10]"),
        (
            &["n1", "n2", "n1", "n3", "n7", "n007", "n1"],
            "n[1-3,7,007]",
        ),
        (
            &["n99999999999999999990", "n99999999999999999995"],
            "n[99999999999999999990,99999999999999999995]",
        ),
        (&[], ""),
    ] {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(folded(&names), folded_);
    }
}

#[test]
fn answers_arrive_whatever_is_printed_between() {
    let mut out = b"\xff\xfe\n{}\n".to_vec();
    for name in ["n1", "n2"] {
        out.extend(handover::line(&node(name)).bytes());
        out.extend(b"\n\xc3\n");
    }
    assert_eq!(heard(&out[..]).unwrap(), [node("n1"), node("n2")]);
}

#[test]
fn who_was_asked_and_how_the_step_ended_must_be_known() {
    let say = |asked: std::result::Result<Vec<String>, String>, ended: Option<&str>| {
        let report = compare(Answers {
            nodes: vec![node("n1"), node("n1")],
            asked,
            ended: ended.map(str::to_owned),
        });
        assert_eq!(report.nodes.len(), 1);
        (report.ok, lines(&report)[2..].join("\n"))
    };
    let known = || Ok(vec!["n1".to_owned()]);
    assert_eq!(say(known(), None), (true, String::new()));
    let (ok, lines) = say(Err("scontrol: why".into()), None);
    assert!(!ok);
    assert_eq!(lines, "which nodes were asked is not known: scontrol: why");
    assert_eq!(
        say(known(), Some("srun ended with 1")),
        (false, "srun ended with 1".to_owned())
    );
}

#[test]
fn a_node_without_plugin_or_launcher_is_a_failure_also_if_it_names_no_fault() {
    for change in [
        |node: &mut Node| node.plugin = None,
        |node: &mut Node| node.launcher = None,
    ] {
        let mut nodes = vec![node("n1"), node("n2")];
        nodes.iter_mut().for_each(change);
        let report = report(nodes, &["n1", "n2"]);
        assert!(report.same && !report.ok);
        assert!(lines(&report)[1].contains("MISSING"));
    }
}
