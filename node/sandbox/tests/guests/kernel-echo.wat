;; A kernel that gives its whole buffer back: length of the argument block, the block, the input.
(module
  (memory (export "memory") 1)
  (func (export "alloc") (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1024)))
      (then
        (drop (memory.grow (i32.add (i32.shr_u (local.get $len) (i32.const 16)) (i32.const 1))))))
    (i32.const 1024))
  (func (export "run") (param $start i32) (param $len i32) (result i64)
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $start)) (i64.const 32))
      (i64.extend_i32_u (local.get $len)))))
