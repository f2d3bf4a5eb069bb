//! Maintains the EndpointSlices of Services, as [`plan::endpoints::Slices`] decides.

use plan::endpoints::Slices;
use reflector::Event;

use crate::Context;
use crate::driver::TaskError;
use crate::endpoint_writes::{IN_FLIGHT, Outcome, execute};
use crate::flight::Flight;
use crate::resource::Resource;

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut services = context.services.subscribe();
    let mut nodes = context.nodes.subscribe();
    let mut slices = context.endpoint_slices.subscribe();
    let mut pods = context.pods.subscribe();
    let mut known = Slices::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut synced = [false; 4];
    loop {
        let next = if synced == [true; 4] && flight.room() > 0 {
            known.next_look()
        } else {
            None
        };
        tokio::select! {
            biased;
            Some(batch) = services.recv() => for event in batch.iter() {
                match event {
                    Event::Put(service) => known.put_service(service),
                    Event::Delete(service) => known.delete_service(service),
                    Event::Synced(_) => synced[0] = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = nodes.recv() => for event in batch.iter() {
                match event {
                    Event::Put(node) => known.put_node(node),
                    Event::Delete(node) => known.delete_node(node),
                    Event::Synced(_) => synced[1] = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = slices.recv() => for event in batch.iter() {
                match event {
                    Event::Put(slice) => known.put_slice(slice),
                    Event::Delete(slice) => known.delete_slice(slice),
                    Event::Synced(version) => {
                        synced[2] = true;
                        known.synced(*version);
                    }
                    Event::Bookmark(version) => known.saw(*version),
                }
            },
            Some(batch) = pods.recv() => for event in batch.iter() {
                match event {
                    Event::Put(pod) => known.put_pod(pod),
                    Event::Delete(pod) => known.delete_pod(pod),
                    Event::Synced(_) => synced[3] = true,
                    Event::Bookmark(_) => {}
                }
            },
            outcome = flight.next() => known.answered(&outcome.action, outcome.answer, context.clock.now()),
            () = context.clock.until(next) => {}
            else => return Err("its reflectors ended".into()),
        }
        while let Some(outcome) = flight.ready() {
            known.answered(&outcome.action, outcome.answer, context.clock.now());
        }
        if synced == [true; 4] && flight.room() > 0 {
            for action in known.plan(context.clock.now(), flight.room()) {
                flight.launch(execute(context.api.clone(), Resource::endpoint_slices(), action));
            }
        }
    }
}
