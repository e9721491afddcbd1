//! Seeds by one name that stands for many hosts, as a headless service is.

use std::net::IpAddr;

use basic_tests::harness::network::Family;
use basic_tests::harness::wait::wait_until;

use crate::world::{LIMIT, World};

const NAME: &str = "basic.example";

#[tokio::test]
async fn one_name_leads_to_all_hosts_and_is_asked_again_until_it_leads_to_one() {
    let Some(mut world) = World::up(Family::V4, 0, 5).await else {
        return;
    };
    let seed = format!("{NAME}:{}", world.layout(1).peer().port());
    for number in 1..=5 {
        world.configure(number, &[&seed]);
    }
    let first = [1, 2, 3];
    for number in first {
        point_name(&world, number, &first);
        world.start(number);
    }
    world.wait_all_active(&first).await;

    // The name is not there yet: the node says so, and works alone meanwhile.
    world.start(4);
    wait_until("node 4 to name the seed", LIMIT, || async {
        let status = world.status(4).await?;
        match status["findings"].to_string().contains(NAME) {
            true => Ok(()),
            false => Err(format!("{:#}", status["findings"])),
        }
    })
    .await
    .unwrap();
    world.write(4, "alone").await;
    assert!(world.state(1, 4).await.is_err(), "nobody led it here");

    // Now it stands for a host where nobody is and for one that lives.
    point_name(&world, 4, &[5, 2]);
    let found = world.wait_all_active(&[1, 2, 3, 4]).await;
    eprintln!("active {found:.2?} after the name was there");
    world.wait_for_document(1, "alone").await;

    // One that comes when the first are dead is led by what the name stands for then.
    for number in first {
        world.kill(number);
    }
    point_name(&world, 5, &[4, 5]);
    world.start(5);
    world.wait_all_active(&[4, 5]).await;
    world.wait_converged(&[4, 5], &["alone".to_owned()]).await;
}

fn point_name(world: &World, on: u16, hosts: &[u16]) {
    let address = |host: &u16| world.network.address(Family::V4, *host);
    let addresses: Vec<IpAddr> = hosts.iter().map(address).collect();
    world.network.point_name(on, NAME, &addresses).unwrap();
}
