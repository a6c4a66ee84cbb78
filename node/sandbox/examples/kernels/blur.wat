;; A blur of three rows over 1 MiB of bytes, 32 times: 128-bit integer vectors, widened, weighted 1-2-1, narrowed.
(module
  (memory (export "memory") 34)
  (func (export "_start")
    (local $round i32) (local $i i32) (local $a v128) (local $b v128) (local $c v128)
    (loop $rounds
      (local.set $i (i32.const 4096))
      (loop $bytes
        (local.set $a (v128.load offset=0 (i32.sub (local.get $i) (i32.const 4096))))
        (local.set $b (v128.load (local.get $i)))
        (local.set $c (v128.load offset=4096 (local.get $i)))
        (v128.store offset=1048576 (local.get $i)
          (i8x16.narrow_i16x8_u
            (i16x8.shr_u
              (i16x8.add
                (i16x8.add (i16x8.extend_low_i8x16_u (local.get $a)) (i16x8.extend_low_i8x16_u (local.get $c)))
                (i16x8.mul (i16x8.extend_low_i8x16_u (local.get $b)) (i16x8.splat (i32.const 2))))
              (i32.const 2))
            (i16x8.shr_u
              (i16x8.add
                (i16x8.add (i16x8.extend_high_i8x16_u (local.get $a)) (i16x8.extend_high_i8x16_u (local.get $c)))
                (i16x8.mul (i16x8.extend_high_i8x16_u (local.get $b)) (i16x8.splat (i32.const 2))))
              (i32.const 2))))
        (local.set $i (i32.add (local.get $i) (i32.const 16)))
        (br_if $bytes (i32.lt_u (local.get $i) (i32.const 1044480))))
      (local.set $round (i32.add (local.get $round) (i32.const 1)))
      (br_if $rounds (i32.lt_u (local.get $round) (i32.const 32))))))
