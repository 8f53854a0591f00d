//! Who one is to a registry: login, logout, and registries that ask in their own ways or not so often.

use super::lying::Lying;
use super::{registry, run};
use crate::place;
use crate::support::registry::{Access, Answer, Registry, Server, plain};

#[test]
fn who_logs_in_is_known_from_then_on_until_they_log_out() {
    let place = place!();
    let registry = registry!(Access::Basic);
    let site = plain(&registry.host);
    let run = |script: &str| run(&place, &site, &registry.host, script);
    let pull = "$R pull --quiet $H/team/small:1 ./i.sqfs";
    let said = run(&format!(
        "echo wrong | $R login -u ada --password-stdin $H; echo $?; {pull}"
    ));
    assert!(
        said.out == "125\n" && said.err.contains("says 401"),
        "{said:#?}"
    );
    assert!(said.err.contains("chariot login 127.0.0.1:"), "{said:#?}");
    // What others keep there stays, a link to it too, and nobody else reads it.
    let login = "echo secret | $R login -u ada --password-stdin $H";
    let said = run(&format!(
        "mkdir -p .config/containers mine; ln -s ../../mine/auth.json .config/containers/auth.json; \
         echo '{{\"auths\":{{\"other\":{{\"auth\":\"eDp5\"}}}},\"credHelpers\":{{\"'$H'\":\"desktop\",\"z\":\"y\"}}}}' >mine/auth.json; \
         {login} && env -u XDG_RUNTIME_DIR {pull} && stat -c %a mine/auth.json && test -L .config/containers/auth.json && \
         grep -c -e '\"other\"' -e '\"z\"' mine/auth.json"
    ));
    assert!(
        said.ok().starts_with("logged in to 127.0.0.1:"),
        "{said:#?}"
    );
    assert!(said.ok().ends_with("mine/auth.json\n600\n2"), "{said:#?}");
    // An older name of this session does not outdo it.
    let said = run(&format!(
        "mkdir -p session/containers; echo '{{\"auths\":{{\"'$H'\":{{\"auth\":\"eDp5\"}}}}}}' >session/containers/auth.json; \
         export XDG_RUNTIME_DIR=$PWD/session; {pull} || {login} && {pull} && $R logout $H && $R logout $H; {pull}"
    ));
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(said.out.contains("nothing for 127.0.0.1:"), "{said:#?}");
    assert!(
        said.out.contains("there was nothing for 127.0.0.1:"),
        "{said:#?}"
    );
    // Where nothing can be kept safely, nothing is.
    let said = run(
        "echo '[]' >.config/containers/auth.json; echo secret | $R login -u ada --password-stdin $H; cat mine/auth.json",
    );
    assert!(
        said.err.contains("no file of credentials") && said.out == "[]\n",
        "{said:#?}"
    );
}

#[test]
fn of_two_ways_to_say_who_one_is_the_one_that_can_be_gone_is_taken() {
    let place = place!();
    let lying = Lying::start(|_, asked, answer| {
        let host = &asked.headers["host"];
        if asked.path.starts_with("/token?") {
            return Answer::ok("{\"token\":\"T\"}");
        }
        match asked.headers.get("authorization").map(String::as_str) {
            Some("Bearer T") => answer,
            _ => Answer {
                headers: vec![
                    ("WWW-Authenticate".into(), "Basic realm=\"Registry\"".into()),
                    (
                        "WWW-Authenticate".into(),
                        format!("Bearer realm=\"http://{host}/token\",service=\"s\""),
                    ),
                ],
                ..Answer::status(401)
            },
        }
    });
    let said = lying.pull(&place);
    assert_eq!(said.code, 0, "{said:#?} {:?}", lying.server.paths());
}

#[test]
fn nobody_but_the_registry_is_shown_who_asks_wherever_it_sends_us() {
    let place = place!();
    let challenge = || Answer {
        headers: vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())],
        ..Answer::status(401)
    };
    // Another port of the same host: another user's, on a node that users share.
    let other = Server::start(move |_| challenge());
    let to = |place: String| Answer {
        headers: vec![("Location".into(), place)],
        ..Answer::status(307)
    };
    let elsewhere = format!("http://{}/x", other.host);
    let auth = |host: &str| {
        let text = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"YWRhOnNlY3JldA==\"}}}}}}");
        let keep = format!("mkdir -p .docker; echo '{text}' >.docker/config.json");
        assert_eq!(place.run(&keep).code, 0);
    };
    for asks_first in [false, true] {
        let elsewhere = elsewhere.clone();
        let sending = Lying::start(move |_, asked, _| {
            match asks_first && !asked.headers.contains_key("authorization") {
                true => challenge(),
                false => to(elsewhere.clone()),
            }
        });
        auth(&sending.server.host);
        sending.pull(&place).failed(125, "says 401", 1);
    }
    let seen = other.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|asked| !asked.headers.contains_key("authorization"))
    );
    drop(seen);
    // To another place of its own it may.
    let moving = Lying::start(move |kind, asked, answer| {
        match (asked.headers.contains_key("authorization"), kind) {
            (false, _) => challenge(),
            (true, "manifest") if !asked.path.contains("moved") => {
                to(format!("{}?moved", asked.path))
            }
            _ => answer,
        }
    });
    auth(&moving.server.host);
    let said = moving.pull(&place);
    assert_eq!(said.code, 0, "{said:#?} {:?}", moving.server.paths());
    // Who gives its tokens is named by it, and is asked without encryption only where the site said so.
    let place = place!();
    let giver = format!("Bearer realm=\"http://{}/token\"", other.host);
    let naming = Lying::start(move |_, _, _| Answer {
        headers: vec![("WWW-Authenticate".into(), giver.clone())],
        ..Answer::status(401)
    });
    naming
        .pull(&place)
        .failed(125, "wants credentials sent without encryption", 1);
    assert_eq!(other.seen.lock().unwrap().len(), 2);
}

#[test]
fn what_a_registry_repeats_of_a_password_is_not_shown_and_what_is_no_host_is_not_dockers() {
    let place = place!();
    let lying = Lying::start(|_, asked, _| match asked.headers.get("authorization") {
        None => Answer {
            headers: vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())],
            ..Answer::status(401)
        },
        Some(header) => Answer {
            body: format!("{{\"errors\":[{{\"message\":\"no {header} is secretpw\"}}]}}").into(),
            ..Answer::status(403)
        },
    });
    let site = plain(&lying.server.host);
    let login = |host: &str| {
        let script = format!("echo secretpw | $R login -u ada --password-stdin {host}");
        run(&place, &site, &lying.server.host, &script)
    };
    login("$H").failed(125, "says 403 Forbidden: no Basic … is …", 1);
    for host in ["registry", "''", "docker:://x", "user@h.example"] {
        let said = login(host);
        said.failed(125, "can't log in to", 1);
        assert!(!said.err.contains("reach"), "{said:#?}");
    }
}

#[test]
fn a_registry_that_is_asked_too_often_is_waited_for_and_what_it_says_is_shown() {
    let place = place!();
    let too_often = |pause: &str| Answer {
        headers: vec![("Retry-After".into(), pause.into())],
        body:
            br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached\n your limit"}]}"#
                .to_vec(),
        ..Answer::status(429)
    };
    let once = std::sync::atomic::AtomicBool::new(true);
    let lying = Lying::start(move |kind, _, answer| {
        match kind == "manifest" && once.swap(false, std::sync::atomic::Ordering::SeqCst) {
            true => too_often("1"),
            false => answer,
        }
    });
    assert_eq!(lying.pull(&place).code, 0);
    // Who gives tokens can be asked too often as well.
    let times = std::sync::Mutex::new(Vec::new());
    let lying = Lying::start(move |_, asked, answer| {
        let host = &asked.headers["host"];
        if asked.path.starts_with("/token?") {
            let mut times = times.lock().unwrap();
            times.push(std::time::Instant::now());
            return match times[..] {
                [_] => too_often("1"),
                [first, ..] if first.elapsed().as_millis() >= 1000 => {
                    Answer::ok("{\"token\":\"T\"}")
                }
                _ => Answer::status(400),
            };
        }
        match asked.headers.get("authorization") {
            Some(_) => answer,
            None => Answer {
                headers: vec![(
                    "WWW-Authenticate".into(),
                    format!("Bearer realm=\"http://{host}/token\""),
                )],
                ..Answer::status(401)
            },
        }
    });
    assert_eq!(lying.pull(&place!()).code, 0, "{:?}", lying.server.paths());
    // Nobody waits for tomorrow.
    let place = place!();
    let lying = Lying::start(move |_, _, _| too_often("86400"));
    let said = lying.pull(&place);
    said.failed(
        125,
        "says 429 Too Many Requests: You have reached your limit",
        1,
    );
    assert!(said.err.contains("asked again in 86400 s"), "{said:#?}");
    assert_eq!(lying.server.paths().len(), 1);
}
