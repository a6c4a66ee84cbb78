//! Holders that lie, readers that pester, disks that are full.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use tally_protocol::message::Refusal;
use tally_protocol::message::blob::BlobReply;

use super::*;
use crate::network::tests::counted;

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_with_other_content_is_noticed_and_what_was_right_is_kept() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let content = content(4 << 20);
    let blob = holder.store.put(&content).unwrap();
    holder.access.publish(blob.id);
    let stored = holder.store.path(blob.id).unwrap();
    let file = OpenOptions::new().write(true).open(&stored).unwrap();
    file.write_all_at(b"lie", 2_500_000).unwrap();
    let from = holder.node.id();
    let network = &reader.node.network;
    let fetched = fetch(network, &reader.store, from, blob, None, |_| {}).await;
    assert!(matches!(fetched, Err(FetchError::Corrupt { holder, .. }) if holder == from));
    assert!(!reader.store.has(blob.id));
    let (there, _) = reader.store.partial_progress(blob).unwrap();
    assert_eq!(there, 2 << 20, "the segments before the lie");
    let lie = range(blob, 2_500_000, 3);
    let read = read_range(network, from, lie, None).await;
    assert!(matches!(read, Err(FetchError::Corrupt { .. })));
    let truth = range(blob, 3 << 20, 1_000);
    let read = read_range(network, from, truth, None).await.unwrap();
    assert_eq!(read, content[3 << 20..(3 << 20) + 1_000]);
    file.write_all_at(&content[2_500_000..2_500_003], 2_500_000)
        .unwrap();
    fetch(network, &reader.store, from, blob, None, |_| {})
        .await
        .unwrap();
    assert_eq!(
        fs::read(reader.store.path(blob.id).unwrap()).unwrap(),
        content
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_blob_has_another_length_is_refused() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let blob = holder.store.put(&content(100_000)).unwrap();
    holder.access.publish(blob.id);
    let other = BlobRef {
        id: blob.id,
        bytes: 50_000,
    };
    let from = holder.node.id();
    let fetched = fetch(
        &reader.node.network,
        &reader.store,
        from,
        other,
        None,
        |_| {},
    )
    .await;
    assert!(matches!(
        fetched,
        Err(FetchError::Length {
            expected: 50_000,
            found: 100_000
        })
    ));
    let beyond = range(blob, 99_999, 2);
    let read = read_range(&reader.node.network, from, beyond, None).await;
    assert!(matches!(read, Err(FetchError::Refused(Refusal::Malformed))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_says_absurd_lengths_or_nothing_is_refused() {
    let mut liar = TestNode::with(1, &[Role::Coordinator], &[]).await;
    let mut reader = Holder::start(2, ServeLimits::default()).await;
    reader.node.join(&mut liar).await;
    let mut incoming = liar.network.accept_blob_streams().unwrap();
    let lying = tokio::spawn(async move {
        let header = BlobReply::Follows(u64::MAX);
        while let Some((_, mut stream)) = incoming.next().await {
            serve::write_header(&mut stream, &header).await.unwrap();
            stream.close().await.unwrap();
        }
    });
    let from = liar.id();
    let network = &reader.node.network;
    let absurd = BlobRef {
        id: BlobRef::of(b"x").id,
        bytes: u64::MAX,
    };
    for part in [range(absurd, 0, 10), range(absurd, u64::MAX - 5, 5)] {
        let read = read_range(network, from, part, None).await;
        assert!(matches!(read, Err(FetchError::Length { .. })));
    }
    let fetched = fetch(network, &reader.store, from, absurd, None, |_| {}).await;
    assert!(matches!(
        fetched,
        Err(FetchError::Store(StoreError::Full { .. }))
    ));
    let nothing = BlobRef { bytes: 0, ..absurd };
    let fetched = fetch(network, &reader.store, from, nothing, None, |_| {}).await;
    assert!(matches!(fetched, Err(FetchError::Corrupt { .. })));
    assert!(!reader.store.has(absurd.id));
    lying.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_says_so_and_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let small = StoreLimits { bytes_max: 150_000 };
    let store = BlobStore::open(folder.path(), small).unwrap();
    let first = store.put(&content(100_000)).unwrap();
    let used = store.usage().bytes;
    assert!((100_000..101_000).contains(&used), "{used}");
    let second = content(60_000);
    assert!(matches!(store.put(&second), Err(StoreError::Full { .. })));
    assert!(!store.has(BlobRef::of(&second).id));
    assert_eq!(store.usage().bytes, used);
    let remote = BlobRef::of(&second);
    assert!(matches!(
        store.open_partial(remote),
        Err(StoreError::Full { .. })
    ));
    assert_eq!(
        store.put(&content(100_000)).unwrap(),
        first,
        "again costs nothing"
    );
    store.remove(first.id).unwrap();
    assert_eq!(store.usage().bytes, 0);
    store.put(&second).unwrap();
    fs::write(folder.path().join("format"), "tally blobs 9\n").unwrap();
    let newer = BlobStore::open(folder.path(), small);
    assert!(matches!(newer, Err(StoreError::Format { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_by_path_reader_and_bytes_name_the_same_blob() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&folder.path().join("store"), LIMITS).unwrap();
    let content = content(1_000_000);
    let file = folder.path().join("file");
    fs::write(&file, &content).unwrap();
    let by_path = store.import(&file).unwrap();
    let used = store.usage();
    assert_eq!(store.import_reader(&content[..]).unwrap(), by_path);
    assert_eq!(store.put(&content).unwrap(), by_path);
    assert_eq!(by_path, BlobRef::of(&content));
    assert_eq!(store.usage(), used, "it is there once");
    let leftover = folder.path().join("store/tmp/leftover");
    fs::write(&leftover, b"half").unwrap();
    BlobStore::open(&folder.path().join("store"), LIMITS).unwrap();
    assert!(!leftover.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_stream_is_refused_and_counted() {
    let (holder, reader) = pair(ServeLimits::default()).await;
    let protocol = libp2p::StreamProtocol::new("/tally/blob/1");
    let cases: [&[u8]; 3] = [b"\0\0\0\x03\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0"];
    for (n, bytes) in cases.iter().enumerate() {
        let network = &reader.node.network;
        let mut stream = network
            .open_stream(holder.node.id(), protocol.clone())
            .await;
        stream.write_all(bytes).await.unwrap();
        stream.close().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).contains("malformed"));
        counted(&holder.node.network, "blob", "malformed", n as u64 + 1).await;
    }
    let blob = holder.store.put(b"still there").unwrap();
    holder.access.publish(blob.id);
    let read = read_range(
        &reader.node.network,
        holder.node.id(),
        range(blob, 0, 11),
        None,
    );
    assert_eq!(read.await.unwrap(), b"still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_so_many_streams_and_no_more() {
    let (holder, reader) = pair(ServeLimits {
        streams: 10,
        streams_per_peer: 2,
    })
    .await;
    let protocol = libp2p::StreamProtocol::new("/tally/blob/1");
    let network = &reader.node.network;
    // Two streams that never say what they want.
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(
            network
                .open_stream(holder.node.id(), protocol.clone())
                .await,
        );
        silent.last_mut().unwrap().write_all(b"\0").await.unwrap();
        silent.last_mut().unwrap().flush().await.unwrap();
        counted(&holder.node.network, "blob", "asked", silent.len() as u64).await;
    }
    let blob = holder.store.put(b"content").unwrap();
    holder.access.publish(blob.id);
    let whole = range(blob, 0, 7);
    let from = holder.node.id();
    let refused = read_range(network, from, whole, None).await;
    assert!(matches!(refused, Err(FetchError::Refused(Refusal::Busy))));
    drop(silent);
    counted(&holder.node.network, "blob", "malformed", 2).await;
    assert_eq!(
        read_range(network, from, whole, None).await.unwrap(),
        b"content"
    );
}
