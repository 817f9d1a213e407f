let run workers body =
  let others = List.init (workers - 1) (fun i -> Domain.spawn (fun () -> body (i + 1))) in
  let mine = body 0 in
  mine :: List.map Domain.join others
