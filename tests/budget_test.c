/* Deadlines, rts_cancel, allocation limits. */
int main(void) { return 0; }
