//! Honest transfers: whole, in parts, resumed.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tally_protocol::id::BlobId;
use tally_protocol::message::Refusal;

use super::*;
use crate::network::now;

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_arrives_verified_and_survives_a_restart() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let content = content(64 << 20);
    let blob = holder.store.put(&content).unwrap();
    holder.access.allow_reader(blob.id, reader.node.id());
    let mut last = 0;
    let counting = |progress: Progress| {
        assert!(progress.bytes >= last);
        last = progress.bytes;
    };
    let from = holder.node.id();
    fetch(
        &reader.node.network,
        &reader.store,
        from,
        blob,
        None,
        counting,
    )
    .await
    .unwrap();
    assert_eq!(last, blob.bytes);
    assert_eq!(
        fs::read(reader.store.path(blob.id).unwrap()).unwrap(),
        content
    );
    assert_eq!(reader.store.usage(), holder.store.usage());
    let again = BlobStore::open(reader.folder.path(), LIMITS).unwrap();
    assert!(again.has(blob.id));
    assert_eq!(again.usage(), reader.store.usage());
    assert_eq!(again.partial_progress(blob), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_every_length_arrive_whole_and_in_parts() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let from = holder.node.id();
    let network = &reader.node.network;
    let group = 16 << 10;
    for bytes in [
        0,
        1,
        1_023,
        1_024,
        1_025,
        group,
        group + 1,
        3 * group - 1,
        (1 << 20) + 7,
    ] {
        let content = content(bytes);
        let blob = holder.store.put(&content).unwrap();
        holder.access.allow_reader(blob.id, reader.node.id());
        for (start, end) in [(0, bytes), (bytes / 3, bytes / 2), (bytes, bytes)] {
            let part = range(blob, start as u64, (end - start) as u64);
            let read = read_range(network, from, part, None).await.unwrap();
            assert_eq!(read, content[start..end], "{start}..{end} of {bytes}");
            assert_eq!(holder.store.read(part).unwrap(), read);
        }
        fetch(network, &reader.store, from, blob, None, |_| {})
            .await
            .unwrap();
        assert_eq!(
            fs::read(reader.store.path(blob.id).unwrap()).unwrap(),
            content
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_cut_goes_on_where_it_was() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let content = content(64 << 20);
    let blob = holder.store.put(&content).unwrap();
    holder.access.allow_reader(blob.id, reader.node.id());
    let half = blob.bytes / 2;
    let reached = std::sync::Arc::new(tokio::sync::Notify::new());
    let task = {
        let (network, store) = (reader.node.network.clone(), reader.store.clone());
        let (from, reached) = (holder.node.id(), reached.clone());
        tokio::spawn(async move {
            fetch(&network, &store, from, blob, None, |progress| {
                if progress.bytes >= half {
                    reached.notify_one();
                }
            })
            .await
        })
    };
    reached.notified().await;
    task.abort();
    let _ = task.await;
    assert!(!reader.store.has(blob.id));
    // As after a kill: nothing but the folder is left of the first attempt.
    let store = BlobStore::open(reader.folder.path(), LIMITS).unwrap();
    let (there, total) = store.partial_progress(blob).unwrap();
    assert!(there >= half && there < total && total == blob.bytes);
    let transferred = AtomicU64::new(0);
    let from = holder.node.id();
    fetch(&reader.node.network, &store, from, blob, None, |progress| {
        transferred.store(progress.transferred, Ordering::Relaxed);
    })
    .await
    .unwrap();
    let transferred = transferred.into_inner();
    assert!(
        transferred <= (total - there) + total / 100,
        "{transferred} of {total}"
    );
    assert_eq!(fs::read(store.path(blob.id).unwrap()).unwrap(), content);
    assert_eq!(store.usage(), holder.store.usage());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_has_damaged_is_fetched_again_and_nothing_else() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let content = content(8 << 20);
    let blob = holder.store.put(&content).unwrap();
    holder.access.allow_reader(blob.id, reader.node.id());
    // A torn write: everything is there but a hole in the middle.
    let partial = reader
        .folder
        .path()
        .join("partial")
        .join(blob.id.to_string());
    let mut torn = content.clone();
    torn[3_000_000..3_000_100].fill(0);
    fs::write(&partial, torn).unwrap();
    let outboard = holder
        .folder
        .path()
        .join("outboard")
        .join(blob.id.to_string());
    fs::copy(outboard, partial.with_extension("outboard")).unwrap();
    let transferred = AtomicU64::new(0);
    let from = holder.node.id();
    let store = BlobStore::open(reader.folder.path(), LIMITS).unwrap();
    fetch(&reader.node.network, &store, from, blob, None, |progress| {
        transferred.store(progress.transferred, Ordering::Relaxed);
    })
    .await
    .unwrap();
    assert!(transferred.into_inner() < 600 << 10);
    assert_eq!(fs::read(store.path(blob.id).unwrap()).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_served_where_it_lies_until_it_changes() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let content = content(3 << 20);
    let file = holder.folder.path().join("movie");
    fs::write(&file, &content).unwrap();
    let blob = holder.store.import_in_place(&file).unwrap();
    assert_eq!(blob.id, BlobId::of(&content));
    assert!(
        holder.store.usage().bytes < 100_000,
        "only its hashes are stored"
    );
    holder.access.allow_reader(blob.id, reader.node.id());
    let from = holder.node.id();
    let part = range(blob, 1_000_000, 1_000_000);
    let network = &reader.node.network;
    let read = read_range(network, from, part, None).await.unwrap();
    assert_eq!(read, content[1_000_000..2_000_000]);
    fs::write(&file, b"another movie").unwrap();
    assert!(!holder.store.has(blob.id));
    assert!(matches!(
        holder.store.read(part),
        Err(StoreError::Changed { .. })
    ));
    let read = read_range(network, from, part, None).await;
    assert!(matches!(
        read,
        Err(FetchError::Refused(Refusal::UnknownBlob))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_opens_a_range_to_its_reader() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let blob = holder.store.put(&content(1 << 20)).unwrap();
    let part = range(blob, 1_000, 50_000);
    let later = now() + Duration::from_secs(60);
    let read = async |range: BlobRange, grant: Option<Signed<BlobGrant>>| match read_range(
        &reader.node.network,
        holder.node.id(),
        range,
        grant,
    )
    .await
    {
        Ok(read) => Ok(read.len()),
        Err(FetchError::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{other}"),
    };
    let own = |range, expires| Some(grant(1, reader.node.id(), range, expires));
    assert_eq!(read(part, own(part, later)).await, Ok(50_000));
    let inside = range(blob, 2_000, 10);
    assert_eq!(read(inside, own(part, later)).await, Ok(10));
    let beside = range(blob, 0, 50_000);
    assert_eq!(
        read(beside, own(part, later)).await,
        Err(Refusal::UnknownBlob)
    );
    assert_eq!(read(part, own(part, now())).await, Err(Refusal::Stale));
    let for_another = grant(1, holder.node.id(), part, later);
    assert_eq!(
        read(part, Some(for_another)).await,
        Err(Refusal::UnknownBlob)
    );
    let by_another = grant(3, reader.node.id(), part, later);
    assert_eq!(
        read(part, Some(by_another)).await,
        Err(Refusal::UnknownBlob)
    );
    let mut forged = grant(1, reader.node.id(), part, later).as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Some(Signed::from_bytes(forged));
    assert_eq!(read(part, forged).await, Err(Refusal::Unverified));
    // What is there and forbidden looks like what is not there.
    let absent = BlobRef::of(b"nowhere");
    assert_eq!(read(part, None).await, Err(Refusal::UnknownBlob));
    assert_eq!(
        read(range(absent, 0, 7), None).await,
        Err(Refusal::UnknownBlob)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_of_one_blob_are_one_transfer() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let blob = holder.store.put(&content(4 << 20)).unwrap();
    holder.access.publish(blob.id);
    let from = holder.node.id();
    let one = || {
        fetch(
            &reader.node.network,
            &reader.store,
            from,
            blob,
            None,
            |_| {},
        )
    };
    let (first, second) = tokio::join!(one(), one());
    first.unwrap();
    second.unwrap();
    assert_eq!(holder.node.network.counters().value("blob", "served"), 1);
    assert_eq!(reader.store.usage(), holder.store.usage());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_arrives_whole() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let sent = content(64 << 20);
    let blob = holder.store.put(&sent).unwrap();
    holder.access.publish(blob.id);
    let from = holder.node.id();
    let (network, store) = (&reader.node.network, &reader.store);
    fetch(network, store, from, blob, None, |_| {})
        .await
        .unwrap();
    let arrived = store.read(range(blob, 0, blob.bytes)).unwrap();
    assert!(arrived == sent, "other bytes than were sent");
}
