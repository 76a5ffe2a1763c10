use futures_util::{FutureExt, TryStreamExt};

use std::{sync::Arc, time::Duration};

use super::{pool::IN_TURN, *};
use crate::config::Limits;

fn budget(memory: u64, spool: u64) -> Budget {
    Budget::new(&Limits {
        memory,
        spool,
        spool_dir: std::env::temp_dir(),
        job_time: Duration::from_mins(1),
    })
}

async fn body_of(budget: &Budget, announced: Option<u64>, bytes: &[u8]) -> Body {
    let mut writer = budget.writer(announced, 64 << 20, None).await.unwrap();
    for chunk in bytes.chunks(70_001) {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

fn some_bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_body_is_the_same_wherever_it_lies() {
    let bytes = some_bytes(17 << 20);
    for (memory, announced, len, stays) in [
        (256 << 20, None, 1000, true),                // small
        (256 << 20, None, 3 << 20, false),            // grows out of memory
        (256 << 20, Some(3 << 20), 3 << 20, true),    // announced as medium
        (16 << 20, Some(3 << 20), 3 << 20, false),    // more than the memory for such
        (256 << 20, Some(17 << 20), 17 << 20, false), // announced as large
        (0, Some(100_000), 200_000, false),           // no memory left, and a wrong announcement
    ] {
        let budget = budget(memory, 64 << 20);
        let held = (memory == 0).then(|| budget.bodies.try_take(1).unwrap());
        let body = body_of(&budget, announced, &bytes[..len]).await;
        assert_eq!(body.chunks().is_some(), stays);
        assert_eq!(body.len(), len as u64);
        assert_eq!(body.sha256(), Sha256::of(&bytes[..len]));

        let mut reader = body.reader();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == bytes[..len], "the reader gives other bytes");
        reader.seek(SeekFrom::End(-7)).unwrap();
        read.clear();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes[len - 7..len]);
        assert_eq!(body.range(500, 400).await.unwrap(), bytes[500..900]);
        for (at, end) in [
            (0, len),
            (500, 900),
            (len - 1, len),
            (len, len),
            (7, len - 7),
        ] {
            let pieces: Vec<Bytes> = body
                .pieces(at as u64, (end - at) as u64)
                .try_collect()
                .await
                .unwrap();
            assert!(pieces.concat() == bytes[at..end], "{at}..{end} of {len}");
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        }
        let beyond = body.pieces(1, len as u64);
        let beyond: io::Result<Vec<Bytes>> = beyond.try_collect().await;
        assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        drop(held);
    }
}

#[tokio::test]
async fn a_body_above_its_limit_is_refused_while_it_streams() {
    let mut writer = budget(1 << 20, 1 << 20)
        .writer(Some(10), 100, None)
        .await
        .unwrap();
    writer.write(Bytes::from(vec![0; 100])).await.unwrap();
    let error = writer.write(Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { most: 100 }));
}

#[tokio::test]
async fn a_dropped_body_gives_its_room_back() {
    let budget = budget(8 << 20, 4 << 20);
    let free = |b: &Budget| (b.bodies.free(), b.spool.free());
    let before = free(&budget);
    let small = body_of(&budget, None, &some_bytes(10)).await;
    let large = body_of(&budget, Some(2 << 20), &some_bytes(2 << 20)).await;
    assert!(free(&budget).0 < before.0 && free(&budget).1 < before.1);
    drop((small, large));
    assert_eq!(free(&budget), before);
}

#[tokio::test]
async fn one_byte_at_a_time_is_one_block_in_the_end() {
    let budget = budget(8 << 20, 1 << 20);
    let bytes = some_bytes(100_000);
    let mut writer = budget.writer(None, 1 << 20, None).await.unwrap();
    for byte in &bytes {
        writer
            .write(Bytes::copy_from_slice(&[*byte]))
            .await
            .unwrap();
    }
    let body = writer.finish().await.unwrap();
    assert!(body.chunks().unwrap().len() <= 2);
    let mut read = Vec::new();
    body.reader().read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(body.sha256(), Sha256::of(&bytes));
}

#[tokio::test]
async fn a_body_without_room_is_given_up_and_can_be_begun_again_with_room() {
    let budget = budget(8 << 20, 6 << 20);
    let first = body_of(&budget, Some(4 << 20), &some_bytes(4 << 20)).await;
    let refused = budget.writer(Some(3 << 20), 64 << 20, None).await;
    assert!(matches!(refused, Err(WriteError::NoRoom { bytes }) if bytes == 3 << 20));
    // Of unknown length: it begins in memory and finds no room when it grows out of it.
    let mut writer = budget.writer(None, 64 << 20, None).await.unwrap();
    let grown = writer.write(Bytes::from(vec![0; 2 << 20])).await;
    assert!(matches!(grown, Err(WriteError::NoRoom { .. })));
    drop(writer);
    let waiting = tokio::spawn({
        let budget = budget.clone();
        async move { budget.room(3 << 20, IN_TURN).await }
    });
    drop(first);
    let room = waiting.await.unwrap().unwrap();
    assert!(
        budget
            .writer(Some(3 << 20), 64 << 20, Some(room))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn long_events_take_turns_and_short_ones_never_wait() {
    let budget = budget(1 << 20, 1 << 20);
    let longest = budget.event(16 << 20).await.unwrap();
    assert!(longest.is_some());
    let mut second = Box::pin(budget.event(1 << 20));
    assert!(second.as_mut().now_or_never().is_none(), "both at once");
    let short = budget.event(256 << 10).now_or_never();
    assert!(short.expect("no wait").unwrap().is_none());
    drop(longest);
    assert!(second.now_or_never().is_some());
}

/// What a client reads into.
struct Buffer {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test]
async fn no_body_holds_the_buffers_that_its_pieces_were_read_into() {
    for announced in [None, Some(2 << 20)] {
        let budget = budget(64 << 20, 64 << 20);
        let mut writer = budget.writer(announced, 64 << 20, None).await.unwrap();
        let held = Arc::new(());
        for _ in 0..8 {
            let buffer = Buffer {
                bytes: vec![7; 400 << 10],
                _held: Arc::clone(&held),
            };
            let piece = Bytes::from_owner(buffer).slice(..4 << 10);
            writer.write(piece).await.unwrap();
            assert_eq!(Arc::strong_count(&held), 1);
        }
        let body = writer.finish().await.unwrap();
        assert_eq!(body.sha256(), Sha256::of(&vec![7; 32 << 10]));
    }
}

#[tokio::test]
async fn an_announced_length_is_believed_once_some_of_it_has_come() {
    let budget = budget(1 << 20, 64 << 20);
    let mut first = budget.writer(Some(40 << 20), 1 << 30, None).await.unwrap();
    // The others have what it has not come to yet.
    let second = budget.writer(Some(40 << 20), 1 << 30, None).await.unwrap();
    let mebibyte = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..17 {
        first.write(mebibyte.clone()).await.unwrap();
    }
    assert_eq!(budget.spool.free(), 8 << 20);
    let mut second = second;
    for _ in 0..16 {
        second.write(mebibyte.clone()).await.unwrap();
    }
    let refused = second.write(mebibyte.clone()).await;
    // All of it is to be waited for, so that it is begun anew once.
    assert!(matches!(refused, Err(WriteError::NoRoom { bytes }) if bytes == 40 << 20));
}

#[tokio::test]
async fn whoever_has_all_the_memory_that_one_may_have_leaves_enough_for_small_work() {
    let budget = budget(256 << 20, 1 << 20);
    let _all = budget.work(budget.most_work()).await.unwrap();
    let next = budget.work(budget.most_work());
    let mut next = Box::pin(next);
    assert!(next.as_mut().now_or_never().is_none());
    let small: Vec<_> = (0..10)
        .map(|_| budget.work(1 << 20).now_or_never())
        .collect();
    assert!(small.iter().all(Option::is_some), "small work had to wait");
    let longest = budget.event(16 << 20).await.unwrap();
    let medium = budget.event(700 << 10).now_or_never();
    assert!(
        longest.is_some() && medium.is_some(),
        "an event had to wait"
    );
}

#[tokio::test]
async fn a_huge_body_that_waits_for_room_does_not_hold_up_small_ones() {
    let budget = budget(0, 64 << 20);
    let held = body_of(&budget, Some(40 << 20), &some_bytes(40 << 20)).await;
    let mut huge = Box::pin(budget.room(50 << 20, IN_TURN));
    assert!(huge.as_mut().now_or_never().is_none());
    let small = body_of(&budget, Some(2 << 20), &some_bytes(2 << 20)).await;
    let refused = budget.writer(Some(20 << 20), 64 << 20, None).await;
    assert!(
        matches!(refused, Err(WriteError::NoRoom { .. })),
        "large ones wait behind it"
    );
    drop(held);
    assert!(huge.now_or_never().is_some());
    drop(small);
}

#[tokio::test]
async fn what_of_a_file_is_on_its_way_is_read_into_the_same_few_buffers() {
    let budget = budget(8 << 20, 64 << 20);
    let bytes = some_bytes(8 << 20);
    let body = body_of(&budget, Some(8 << 20), &bytes).await;
    let mut pieces = Box::pin(body.pieces(0, 8 << 20));
    let (mut places, mut read) = (std::collections::BTreeSet::new(), Vec::new());
    // As a connection does: one is being sent while the next one is read.
    let mut before = None;
    while let Some(piece) = pieces.try_next().await.unwrap() {
        read.extend_from_slice(&piece);
        places.insert(piece.as_ptr() as usize);
        before = Some(piece);
    }
    drop(before);
    assert!(read == bytes);
    assert!(places.len() <= 2, "{} buffers", places.len());
}

#[tokio::test]
async fn a_file_that_lost_its_end_is_an_error_and_never_a_shorter_body() {
    let budget = budget(8 << 20, 64 << 20);
    let body = body_of(&budget, Some(2 << 20), &some_bytes(2 << 20)).await;
    let Place::Spool { file, .. } = &*body.place else {
        panic!("it lies in memory");
    };
    file.set_len((1 << 20) + 5).unwrap();
    let pieces: io::Result<Vec<Bytes>> = body.pieces(0, 2 << 20).try_collect().await;
    assert_eq!(pieces.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut copy = tempfile::tempfile().unwrap();
    let copied = body.write_to(&mut copy, || true);
    assert_eq!(copied.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
