/* A libcuda.so.1 for machines without a driver, used by the test of cuDNN's graphs alone: cuDNN compiles a kernel, "loads" it
 * here, and calls its plan made. Loading succeeds with a handle that is good for nothing; the other symbols must only exist. */
typedef int status;

static int dummy;

status cuLibraryLoadData(void** library, const void* code, void* a, void* b, unsigned c, void* d, void* e, unsigned f) {
  (void)code, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  *library = &dummy;
  return 0;
}

status cuLibraryGetKernel(void** kernel, void* library, const char* name) {
  (void)library, (void)name;
  *kernel = &dummy;
  return 0;
}

#define ABSENT(name) \
  status name(void); \
  status name(void) { return 100; }
ABSENT(cuGetErrorName)
ABSENT(cuGetErrorString)
ABSENT(cuDriverGetVersion)
ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent)
ABSENT(cuCtxPushCurrent)
ABSENT(cuStreamGetCtx)
ABSENT(cuLinkCreate)
ABSENT(cuLinkAddData)
ABSENT(cuLinkComplete)
ABSENT(cuLinkDestroy)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuDeviceGetCount)
ABSENT(cuDeviceGet)
ABSENT(cuLibraryLoadFromFile)
ABSENT(cuLibraryUnload)
ABSENT(cuLibraryGetGlobal)
ABSENT(cuLibraryGetModule)
ABSENT(cuKernelGetFunction)
ABSENT(cuFuncSetAttribute)
ABSENT(cuKernelSetAttribute)
ABSENT(cuFuncGetAttribute)
ABSENT(cuKernelGetAttribute)
ABSENT(cuOccupancyMaxPotentialClusterSize)
