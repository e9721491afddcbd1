//! The order of tasks, and the room for them.

use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::ZERO;

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Tasks numbered from 1, each with its priority and its document.
fn queue(places: usize, tasks: &[(i64, &'static str)]) -> Queue<&'static str> {
    let mut queue = Queue::new(places);
    for (number, (priority, document)) in (1..).zip(tasks) {
        queue.hold(*priority).unwrap();
        queue.put(number, *priority, Some(*document));
    }
    queue
}

/// Takes all, each written at once.
fn drain(queue: &mut Queue<&'static str>, documents: &[&'static str]) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(number) = queue.take(NOW) {
        queue.written(number, &documents[usize::try_from(number).unwrap() - 1]);
        order.push(number);
    }
    order
}

#[test]
fn the_highest_priority_goes_first_and_equals_in_the_order_in_which_they_came() {
    let mut queue = queue(9, &[(0, "a"), (5, "b"), (-3, "c"), (5, "d"), (0, "e")]);
    assert_eq!(
        drain(&mut queue, &["a", "b", "c", "d", "e"]),
        [2, 4, 1, 5, 3]
    );
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn the_oldest_gets_its_turn_under_a_steady_stream_of_more_urgent_ones() {
    let mut queue = queue(9, &[(0, "old")]);
    let mut taken = Vec::new();
    for number in 2..=20 {
        queue.hold(9).unwrap();
        queue.put(number, 9, None);
        taken.push(queue.take(NOW).unwrap());
    }
    let place = taken.iter().position(|number| *number == 1);
    assert_eq!(
        place,
        usize::try_from(AGED_EVERY).ok().map(|every| every - 1)
    );
}

#[test]
fn tasks_about_one_document_keep_their_order_and_lend_their_priority() {
    let documents = ["same", "other", "same", "same"];
    let mut queue = queue(9, &[(0, "same"), (5, "other"), (9, "same"), (1, "same")]);
    assert_eq!(drain(&mut queue, &documents), [1, 3, 2, 4]);
}

#[test]
fn while_one_is_being_written_others_of_its_document_wait_and_the_rest_do_not() {
    let mut queue = queue(9, &[(0, "same"), (9, "same"), (-1, "other")]);
    assert_eq!(queue.take(NOW), Some(1));
    assert_eq!(queue.take(NOW), Some(3));
    assert_eq!(queue.take(NOW), None);
    queue.written(1, &"same");
    assert_eq!(queue.take(NOW), Some(2));
}

#[test]
fn one_that_could_not_be_written_keeps_those_behind_it_until_its_retry() {
    let mut queue = queue(9, &[(0, "same"), (9, "same")]);
    assert_eq!(queue.take(NOW), Some(1));
    queue.put_later(1, 0, Some("same"), second(5));
    assert_eq!(
        (queue.take(second(4)), queue.next_due()),
        (None, Some(second(5)))
    );
    assert_eq!(queue.take(second(5)), Some(1));
    queue.written(1, &"same");
    assert_eq!(queue.take(second(5)), Some(2));
}

#[test]
fn one_that_is_written_and_waits_for_its_retry_keeps_nobody() {
    let mut queue = queue(9, &[(0, "same"), (0, "same")]);
    assert_eq!(queue.take(NOW), Some(1));
    queue.written(1, &"same");
    queue.put_later(1, 0, None, second(5));
    assert_eq!(queue.waiting(), 2);
    assert_eq!(queue.take(NOW), Some(2));
    assert_eq!(queue.take(second(6)), Some(1));
}

#[test]
fn a_full_queue_takes_a_task_that_overtakes_and_no_other() {
    let mut queue = queue(2, &[(0, "a"), (0, "b")]);
    let (waiting, before) = (2, 2);
    assert_eq!(queue.hold(0), Err(Full { waiting, before }));
    assert_eq!(queue.hold(-1), Err(Full { waiting, before }));
    queue.hold(1).unwrap();
    let (waiting, before) = (3, 1);
    assert_eq!(queue.hold(1), Err(Full { waiting, before }));
    assert_eq!(queue.hold(9), Err(Full { waiting, before: 0 }));
    queue.let_go(1);
    queue.hold(9).unwrap();
}

#[test]
fn a_place_is_free_once_its_task_is_taken() {
    let mut queue = queue(1, &[(0, "a")]);
    assert!(queue.hold(0).is_err());
    assert_eq!(queue.take(NOW), Some(1));
    queue.hold(0).unwrap();
}

/// What a random user of the queue does next.
#[derive(Debug, Clone)]
enum Step {
    Submit(i64, u8),
    Take,
    /// Of those that are being carried out, the one at this place (modulo their count).
    Write(usize),
    Retry(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (-2i64..3, 0u8..4).prop_map(|(priority, document)| Step::Submit(priority, document)),
        3 => Just(Step::Take),
        2 => any::<usize>().prop_map(Step::Write),
        1 => any::<usize>().prop_map(Step::Retry),
        1 => (0u64..10).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: the bound holds, no document is written out of order, and every task is taken in the end.
    #[test]
    fn nothing_is_lost_or_written_out_of_order(steps in proptest::collection::vec(step(), 0..120)) {
        const PLACES: usize = 5;
        let mut queue: Queue<u8> = Queue::new(PLACES);
        let mut tasks: BTreeMap<u64, (i64, u8)> = BTreeMap::new();
        let mut running: Vec<u64> = Vec::new();
        let mut written: Vec<u64> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Submit(priority, document) => {
                    let room = queue.hold(priority).is_ok();
                    prop_assert!(room || queue.waiting() >= PLACES);
                    if room {
                        let number = tasks.len() as u64 + 1;
                        tasks.insert(number, (priority, document));
                        queue.put(number, priority, Some(document));
                        prop_assert!(queue.waiting() <= PLACES + 1);
                    }
                }
                Step::Take => running.extend(queue.take(second(now))),
                Step::Write(at) if !running.is_empty() => {
                    let number = running.remove(at % running.len());
                    queue.written(number, &tasks[&number].1);
                    written.push(number);
                }
                Step::Retry(at) if !running.is_empty() => {
                    let number = running.remove(at % running.len());
                    let (priority, document) = tasks[&number];
                    queue.put_later(number, priority, Some(document), second(now + 3));
                }
                Step::Wait(seconds) => now += seconds,
                Step::Write(_) | Step::Retry(_) => {}
            }
        }
        loop {
            now += 3;
            running.extend(std::iter::from_fn(|| queue.take(second(now))));
            if running.is_empty() {
                break;
            }
            for number in running.drain(..) {
                queue.written(number, &tasks[&number].1);
                written.push(number);
            }
        }
        prop_assert_eq!(queue.waiting(), 0);
        prop_assert_eq!(written.len(), tasks.len());
        for document in 0..4 {
            let of_document = written.iter().filter(|number| tasks[number].1 == document);
            prop_assert!(of_document.is_sorted(), "{:?}", written);
        }
    }
}
