//! A data directory that is copied to a second machine: two nodes with one id.

use std::fs;
use std::time::Instant;

use basic_tests::harness::network::Family;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use serde_json::json;

use crate::watcher::Watcher;
use crate::world::{LIMIT, World};

/// The node whose directory is copied, and the host of the copy.
const ORIGINAL: u16 = 3;
const COPY: u16 = 4;

#[tokio::test]
async fn a_node_and_its_copy_on_another_host_both_stop_writing_and_lose_nothing() {
    let Some(mut world) = World::up(Family::V4, 3, 4).await else {
        return;
    };
    world.write(ORIGINAL, "before").await;
    world.kill(ORIGINAL);
    copy_data(&world);
    world.start(ORIGINAL);
    world.wait_all_active(&[1, 2, 3]).await;

    // While the copy meets nobody, it cannot know; what it acknowledges counts.
    world.network.isolate(COPY).unwrap();
    world.start(COPY);
    wait_until("the copy to accept a write", LIMIT, || async {
        let (status, said) = world.try_write(COPY, "on-the-copy").await?;
        if (200..300).contains(&status) {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await
    .unwrap();
    world.write(ORIGINAL, "on-the-original").await;

    world.network.heal().unwrap();
    let healed = Instant::now();
    let addresses = [ORIGINAL, COPY].map(|number| world.layout(number).peer().to_string());
    for number in [ORIGINAL, COPY] {
        wait_until(format!("node {number} to refuse writes"), LIMIT, || async {
            let (status, said) = world.try_write(number, "refused").await?;
            let names_both = addresses.iter().all(|address| said.contains(address));
            match (status, names_both) {
                (503, true) => Ok(()),
                _ => Err(format!("{status}: {said}")),
            }
        })
        .await
        .unwrap();
        let after = healed.elapsed();
        eprintln!("node {number} refuses writes {after:.2?} after the heal at the latest");
        world.wait_for_document(number, "before").await;
    }
    world.write(1, "meanwhile").await;

    // An operator ends the copy in good order, and says that the original is to go on.
    world.signal(COPY, Signal::TERM);
    let revive = format!("{}/v1/members/n{ORIGINAL}/revive", world.api(ORIGINAL));
    wait_until("the original to be revived", LIMIT, || async {
        let order = json!({ "why": "the copy is gone" });
        let answer = world.client.post_json(&revive, &order).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(answer.text()),
        }
    })
    .await
    .unwrap();
    world.write(ORIGINAL, "after").await;
    let written = [
        "before",
        "on-the-copy",
        "on-the-original",
        "meanwhile",
        "after",
    ];
    let written = written.map(str::to_owned);
    world.wait_converged(&[1, 2, 3], &written).await;

    // That the copy has left in good order says nothing about the original.
    let watcher = Watcher::start(&world, &[1, 2]);
    world.kill(ORIGINAL);
    for observer in [1, 2] {
        world.wait_for_state(observer, ORIGINAL, "failed").await;
    }
    let left = watcher.changes_to("left");
    assert!(left.is_empty(), "it has not left: {left:?}");
    world.kill(COPY);
}

/// Gives the copy's host the data and the id of the original, and its own addresses.
fn copy_data(world: &World) {
    let [original, copy] = [ORIGINAL, COPY].map(|number| world.layout(number));
    fs::create_dir_all(copy.data_directory()).unwrap();
    for entry in fs::read_dir(original.data_directory()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            let target = copy.data_directory().join(entry.file_name());
            fs::copy(entry.path(), target).unwrap();
        }
    }
    let settings = fs::read_to_string(copy.config_file()).unwrap();
    let ids = [COPY, ORIGINAL].map(|number| format!("id = \"n{number}\""));
    assert!(settings.contains(&ids[0]));
    let settings = settings.replace(&ids[0], &ids[1]);
    fs::write(copy.config_file(), settings).unwrap();
}
