//! `members`, `status` and `leave`.

use super::run;
use super::server::{Reply, Server, json};

const MEMBERS: &str = r#"{"self":"n1","members":[
 {"id":"n1","agent":true,"state":"active","incarnation":3,"addresses":{"peer":"127.0.0.1:9410","api":"127.0.0.1:9411","app":"127.0.0.1:9413"},
  "labels":{"zone":"a"},"weight":100,"app":{"healthy":true},"phi":0.2,"last_heartbeat_ms":12},
 {"id":"n2","state":"failed","live":false,"app":{"healthy":true}},
 {"id":"s1","agent":false,"state":"active","weight":7,"addresses":{"peer":null,"api":null,"app":"10.0.0.9:80"},
  "app":{"healthy":true,"by":"n1"}}]}"#;

#[test]
fn members_are_listed_with_this_node_marked_and_gaps_where_nothing_is_known() {
    let server = Server::answering(json("200 OK", MEMBERS));
    let listed = run(&["members", "--api", &server.url()]);
    assert_eq!(
        listed.stdout,
        "ID    KIND    STATE   FOR  APP               WEIGHT  PEER            API             APP ADDRESS     LABELS\n\
         n1 *  node    active  -    healthy           100     127.0.0.1:9410  127.0.0.1:9411  127.0.0.1:9413  zone=a\n\
         n2    -       failed  -    -                 -       -               -               -               -\n\
         s1    server  active  -    healthy, says n1  7       -               -               10.0.0.9:80     -\n"
    );
    assert_eq!(listed.code, 0);
    assert_eq!(server.lines(), ["GET /v1/members"]);
}

#[test]
fn json_is_printed_as_the_agent_gave_it() {
    let server = Server::answering(json("200 OK", MEMBERS));
    assert_eq!(
        run(&["members", "--json", "--api", &server.url()]).stdout,
        format!("{MEMBERS}\n")
    );
    assert_eq!(
        run(&["status", "--json", "--api", &server.url()]).stdout,
        format!("{MEMBERS}\n")
    );
}

#[test]
fn status_says_that_all_is_well() {
    let server = Server::answering(json(
        "200 OK",
        r#"{"cluster":"c1","self":"n1","state":"active","ready":true,"version":"0.1.0","uptime_seconds":192,
            "members":{"total":3,"active":2,"joining":1,"failed":0},
            "app":{"url":"http://127.0.0.1:9413","healthy":true,"reason":null},
            "proxy":{"listen":"127.0.0.1:9412","requests":120,"failed":0,"retried":2,
              "endpoints":[{"id":"n1","target":"127.0.0.1:9413","admission":"admitted","in_flight":0,"requests":40,"failures":0,"ejected":false}]},
            "sync":{"caught_up":true,"peers":[{"id":"n2","connected":true,"behind":0,"unacknowledged":3,"unacknowledged_ms":4210},{"id":"n3","connected":false,"last_error":"timed out"}]},
            "findings":[]}"#,
    ));
    let status = run(&["status", "--api", &server.url()]);
    assert_eq!(status.code, 0);
    assert_eq!(
        status.stdout,
        "n1 in cluster c1: all is well.\n\
         \n\
         members      3: 2 active, 1 joining\n\
         app          http://127.0.0.1:9413 is healthy\n\
         proxy        127.0.0.1:9412, 120 requests, 0 failed, 2 retried\n\
         \x20            n1 at 127.0.0.1:9413: admitted, 40 requests, 0 failures, 0 in flight\n\
         replication  caught up\n\
         \x20            n2: connected, 3 changes of this node are not there yet (the oldest 4.2s old)\n\
         \x20            n3: not connected, last error: timed out\n\
         agent        version 0.1.0, up for 3m 12s\n"
    );
}

#[test]
fn status_shows_the_numbers_by_which_all_is_well() {
    let server = Server::answering(json(
        "200 OK",
        r#"{"cluster":"c1","self":"n1","ready":true,"members":{"total":3,"active":3},"findings":[],
            "gossip":{"advertised":"10.0.0.1:9400","tick_delay_max_ms":12,"last_inbound_ms":80,"heartbeat_age_max_ms":210,
              "phi_max":1.25,"phi_limit":8.0,"clock_offset_max_ms":-3},
            "disk":{"free_bytes":1073741824,"total_bytes":2147483648}}"#,
    ));
    let status = run(&["status", "--api", &server.url()]);
    assert_eq!(
        status.stdout,
        "n1 in cluster c1: all is well.\n\
         \n\
         members      3: 3 active\n\
         gossip       every live member was heard within 210 ms (phi at most 1.2, limit 8)\n\
         \x20            others reached this node at 10.0.0.1:9400 80 ms ago\n\
         \x20            clocks are within 3 ms\n\
         \x20            its own ticks came at most 12 ms late\n\
         disk         1.0 GiB of 2.0 GiB are free\n"
    );
}

#[test]
fn status_ends_with_1_if_something_does_not_work_and_with_0_if_there_are_warnings() {
    for (severity, code) in [("error", 1), ("warning", 0)] {
        let body =
            format!(r#"{{"self":"n1","findings":[{{"severity":"{severity}","fact":"f"}}]}}"#);
        let server = Server::answering(json("200 OK", &body));
        for flags in [&[][..], &["--json"]] {
            let status = run(&[&["status", "--api", &server.url()], flags].concat());
            assert_eq!(status.code, code, "{status:?}");
            assert_eq!(status.stderr, "", "all of it was printed");
        }
    }
}

#[test]
fn members_tell_a_doubt_and_an_app_that_is_not_reached_from_here() {
    let server = Server::answering(json(
        "200 OK",
        r#"{"self":"n1","members":[{"id":"n2","state":"suspect","phi":6.43,"app":{"healthy":true},"reachable":{"ok":false}}]}"#,
    ));
    let listed = run(&["members", "--api", &server.url()]).stdout;
    assert!(listed.contains("suspect, phi 6.4"), "{listed}");
    assert!(listed.contains("healthy, not reached"), "{listed}");
}

#[test]
fn doctor_needs_no_agent_and_ends_with_1_if_a_check_fails() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    // All at once, so that none is given twice.
    let listeners = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [peer, api, proxy] = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    let doctor = |app: &str, more: &[&str]| {
        let own = [
            "doctor",
            "--data-dir",
            data,
            "--peer-listen",
            &peer,
            "--api-listen",
            &api,
            "--proxy-listen",
            &proxy,
            "--app-url",
            app,
        ];
        run(&[&own[..], more].concat())
    };
    let app = Server::answering(json("200 OK", r#"{"status":"ok"}"#));
    let fine = doctor(&app.url(), &[]);
    assert_eq!(fine.code, 0, "{fine:?}");
    assert!(fine.stdout.contains(&format!("{peer} is free")), "{fine:?}");
    let down = doctor(&format!("http://{}", free()), &[]);
    assert_eq!(down.code, 1, "{down:?}");
    assert!(down.stdout.contains("the server does not run"), "{down:?}");
    assert!(down.stdout.contains("1 failure"), "{down:?}");
    let as_json = doctor(&app.url(), &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&as_json.stdout).unwrap();
    assert_ne!(report["verdict"], "failure", "{report}");
    assert!(report["checks"].as_array().unwrap().len() > 8, "{report}");
    assert!(!directory.path().join("data").exists(), "nothing was made");
}

#[test]
fn status_tells_each_finding_with_cause_evidence_and_next_command() {
    let server = Server::answering(json(
        "200 OK",
        r#"{"cluster":"c1","self":"n1","ready":true,"members":{"total":2},"findings":[
            {"severity":"error","fact":"node n2 does not answer","cause":"its agent stopped","evidence":["no heartbeat","connection refused"],"next":"scripts/cluster restart 2"},
            {"severity":"warning","fact":"the app is slow\u001b[2J"}]}"#,
    ));
    assert_eq!(
        run(&["status", "--api", &server.url()]).stdout,
        "n1 in cluster c1: 2 things need attention.\n\
         \n\
         error: node n2 does not answer\n\
         \x20 cause     its agent stopped\n\
         \x20 evidence  no heartbeat\n\
         \x20 evidence  connection refused\n\
         \x20 next      scripts/cluster restart 2\n\
         \n\
         warning: the app is slow\\u{1b}[2J\n\
         \n\
         members      2\n"
    );
}

#[test]
fn status_of_an_agent_that_is_not_ready_says_so() {
    let server = Server::answering(json(
        "200 OK",
        r#"{"self":"n1","cluster":"c1","ready":false,"state":"catching-up"}"#,
    ));
    let status = run(&["status", "--api", &server.url()]);
    let first = status.stdout.lines().next();
    assert_eq!(
        first,
        Some("n1 in cluster c1: nothing is wrong, but it is not ready yet (state catching-up).")
    );
}

#[test]
fn leave_asks_the_agent_and_waits_until_it_is_gone() {
    let mut looks = 0;
    let server = Server::start(move |request| match request.line.as_str() {
        "GET /v1/members" => Reply::Bytes(json("200 OK", r#"{"self":"node 1"}"#)),
        "GET /v1/status" => {
            looks += 1;
            let answer = json("200 OK", r#"{"state":"draining"}"#);
            if looks == 3 {
                Reply::Last(answer)
            } else {
                Reply::Bytes(answer)
            }
        }
        _ => Reply::Bytes(json("202 Accepted", "{}")),
    });
    let left = run(&["leave", "--api", &server.url()]);
    assert_eq!(left.code, 0, "{}", left.stderr);
    assert_eq!(
        left.stdout,
        "node 1 has left the cluster; its agent has stopped\n"
    );
    assert_eq!(
        left.stderr,
        "node 1 was asked to leave\nnode 1 is draining\n"
    );
    assert_eq!(
        server.lines()[..2],
        ["GET /v1/members", "DELETE /v1/members/node%201"]
    );
}

#[test]
fn leave_believes_an_agent_that_stops_before_its_answer_is_complete() {
    let server = Server::start(|request| match request.line.as_str() {
        "GET /v1/members" => Reply::Bytes(json("200 OK", r#"{"self":"n1"}"#)),
        _ => Reply::Last(b"HTTP/1.1 202 Accepted\r\ncontent-length: 10\r\n\r\n".to_vec()),
    });
    let left = run(&["leave", "--json", "--api", &server.url()]);
    assert_eq!(left.stdout, "{\"id\":\"n1\",\"left\":true}\n");
}

#[test]
fn leave_says_when_the_agent_is_still_there() {
    let server = Server::answering(json("200 OK", r#"{"self":"n1","state":"draining"}"#));
    let left = run(&["leave", "--timeout", "1ms", "--api", &server.url()]);
    assert_eq!(left.code, 1);
    assert!(
        left.stderr.ends_with("error: n1 accepted to leave and was still there after 1ms; `basic-agent status` says what it waits for"),
        "{}",
        left.stderr
    );
}

#[test]
fn leave_that_is_refused_ends_with_the_reason() {
    let server = Server::start(|request| match request.line.as_str() {
        "GET /v1/members" => Reply::Bytes(json("200 OK", r#"{"self":"n1"}"#)),
        _ => Reply::Bytes(json(
            "409 Conflict",
            r#"{"detail":"n1 is the last node","next":"stop the agent"}"#,
        )),
    });
    let left = run(&["leave", "--api", &server.url()]);
    assert_eq!(
        (left.code, left.stderr.as_str()),
        (1, "error: n1 is the last node\n  next: stop the agent")
    );
}

#[test]
fn leave_of_an_agent_that_does_not_say_who_it_is_asks_for_nothing() {
    let server = Server::answering(json("200 OK", "{}"));
    let left = run(&["leave", "--api", &server.url()]);
    assert_eq!(left.code, 1);
    assert!(
        left.stderr.contains("does not have the field \"self\""),
        "{}",
        left.stderr
    );
    assert_eq!(server.lines(), ["GET /v1/members"]);
}
